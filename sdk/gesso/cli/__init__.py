"""The `gesso` command line: commands are registered by import string and imported only when called."""
