"""Local chains: anvil where it is found, an embedded py-evm chain everywhere else."""
