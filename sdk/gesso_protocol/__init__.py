"""Pure rules of the gesso protocol: no input or output, no clock, no randomness."""
