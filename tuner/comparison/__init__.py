"""The agent against Bayesian search, on experiments that neither has seen.

Every method searches the same experiments with the same frames. Each evaluation is worth its
net indexing rate; what a method would recommend after n evaluations is the settings with the
highest one among them, or, of the agent, those that its selector takes; and that is held against
the truth: what those settings index of infinitely many frames (simulated experiments), or of
frames that the search never saw (others).

============ ===============================================================================
`methods`    the methods, each made for one task
`searching`  one of them on one task
`benchmark`  on the frozen simulated experiments
`frames`     on frames: search on some frames, score on others
`tables`     on recorded tables
`frames_benchmark` on frozen frames, every one recorded with every set of a design; `frames_words`
             and `frames_pictures` say and show what came of it
`runs`       on a user's run, on rendered and shared ones
`statistics` what the regrets come to, decided on beforehand
`results`    the regrets, and their file
`store`      what was measured so far, so that a comparison can be resumed
`words`      sentences and Markdown, `console` tables on the terminal, `pictures` pictures
============ ===============================================================================
"""
