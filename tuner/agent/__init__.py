"""The trained agent: what it is, how it is trained.

================= ==========================================================================
`searcher`        the agent in a session, and its hand-over to a search of the rest
`policy`          its actors, and their files
`judge`           which of the settings that were tried is truly the best
`networks`        the networks of both, without PyTorch
`warm_start`      the points that it hands over to, and that the baselines begin with
`rollout`         a policy on many simulated experiments at once
`training`        teaching the actors, by PPO, and the judge; checkpoints
`judge_training`  what the judge is taught with, `training_curves` how both went
================= ==========================================================================
"""
