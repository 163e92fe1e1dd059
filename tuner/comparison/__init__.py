"""The agent against Bayesian search, on experiments that neither has seen.

On frozen frames, of which every one was recorded with every set of a design, what a method
recommends is held against the best of all recorded sets on frames that the session did not have; on
a user's run, against the best that any method found.

================== =========================================================================
`searching`        one method on one task: the session that a user would get
`frames_benchmark` on the frozen frames; `frames_together` over several families,
                   `frames_retired` beside what cannot be run any more, `frames_words` and
                   `frames_pictures` say and show what came of it
`runs`             on a user's run: `frames` searches on some of its frames and scores on others
`statistics`       what the regrets come to, decided on beforehand
`results`          the regrets, and their file
`store`            what was measured so far, so that a comparison can be resumed
`spreading`        units of work over processes
`words`            a run's sentences and Markdown, `console` its tables, `pictures` its pictures
================== =========================================================================
"""
