"""The simulator of frames, of runs and of whole experiments."""
