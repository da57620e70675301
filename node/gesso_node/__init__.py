"""The gesso worker: claims tasks, runs them, proves them, gets paid."""
