"""The gesso SDK: client, command line, and the ports to chain, blobs and peers."""
