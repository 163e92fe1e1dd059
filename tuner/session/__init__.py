"""A session: the loop, its store, the race."""
