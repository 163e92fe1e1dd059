"""The trained agent: what it is, how it is trained.

================= ==========================================================================
`searcher`        the agent in a session, and its hand-over to a search of the rest
`policy`          its actors, and their files
`selector`        which of the parameter sets that were tried is truly the best
`networks`        the networks of both, without PyTorch
`warm_start`      the points that it hands over to, and that the baselines begin with
`rollout`         a policy on many simulated experiments at once
`training`        a whole training: actors, then the selector; checkpoints
`selector_training`  the sessions and the network that the selector is trained with
================= ==========================================================================
"""
