"""The gesso relay: bootstrap peer, blob cache, index and HTTP gateway; never trusted."""
