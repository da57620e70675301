"""The trio side of the libp2p adapter. Only this package imports trio and libp2p; nothing of them leaves it."""
