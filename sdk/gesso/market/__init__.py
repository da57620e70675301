"""The marketplace: looking for models, putting them up, taking them down, and what they earn."""
