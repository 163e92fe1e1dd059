"""The response model: evaluations of simulated experiments without frames."""
