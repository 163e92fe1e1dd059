"""The response map: what the peaks of the frames say of every parameter set before indexing.

`features` has the numbers that a look and the lattices give, `regression` the Bayesian logistic
regression that a session corrects, `model` what was learnt on simulated experiments and is
shipped, `session_map` the map of one session, `session` what keeps it up with the session's
evaluations, `gains` what measuring a set promises by it, `stored` the map on disk.
"""
