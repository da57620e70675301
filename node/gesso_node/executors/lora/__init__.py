"""Training LoRAs and drawing with them. What needs torch is imported in the child process only."""
