"""The trained agent: what it is, how it is trained.

==================== =======================================================================
`searcher`           the agent in a session, and its fallback search
`policy`             its actors and its selector, and their files
`selector`           which of the parameter sets that were tried is truly the best
`networks`           the networks of both, without PyTorch
`warm_start`         the points that the fallback search and the baselines begin with
`rollout`            a policy on many simulated experiments at once
`training`           a whole training: actors, then the selector
`training_setup`     its options, its experiments, and what the two parts share
`actor_training`     one actor: imitation pre-training, then PPO
`stable_baselines`   the vector environment as Stable-Baselines3 wants it
`selector_training`  the sessions and the network that the selector is trained with
`training_curves`    how a training went
==================== =======================================================================
"""
