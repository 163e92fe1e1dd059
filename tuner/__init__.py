"""Sessions, searchers, statistics, recommendation and the command line."""
