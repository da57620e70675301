"""HTTP routes, one file a noun. They translate between HTTP and the parts of the relay, and decide nothing."""
