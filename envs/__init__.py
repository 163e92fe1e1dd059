"""Search space, evaluations and Gymnasium environments; the simulator of experiments."""
