"""Running tasks: the executor port, the fake and the diffusers engine, and the child process that holds them."""
