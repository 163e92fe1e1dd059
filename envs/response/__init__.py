"""The response model: evaluations without frames, for training."""
