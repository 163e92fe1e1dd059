"""Training of the learned peak finder: on rendered frames, and further on a session's own.

`examples` has rendered frames with labels, `networks` the training with PyTorch, `training` makes
the model that comes with the program, `refining` goes on with a session's frames.
"""
