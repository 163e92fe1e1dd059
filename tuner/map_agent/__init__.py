"""The agent: it goes by the response map, and chooses sets and frames.

============= ==========================================================================
`searcher`    the agent in a session
`policy`      its network without PyTorch, and its file
`layers`      multilayer perceptrons in NumPy, which the network is made of
`network`     the network as PyTorch trains it
`training`    imitation of the map's own rule, then PPO, with checkpoints in between
`checkpoints` what a training keeps, so that it can be resumed
`own_past`    the map's model, refined on a facility's own sessions
`validation`  sessions on held-out experiments: what a policy is chosen by
============= ==========================================================================
"""
