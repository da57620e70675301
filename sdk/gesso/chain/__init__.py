"""The chain, seen through gesso's own types: one adapter over any Ethereum JSON-RPC endpoint."""
