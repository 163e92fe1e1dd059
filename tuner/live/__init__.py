"""Sessions and reductions on frames from a socket."""
