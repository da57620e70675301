"""Pages for people, drawn on the server from the same questions that the JSON answers. No scripts, no foreign files."""
