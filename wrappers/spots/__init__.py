"""The learned peak finder: candidates of peakfinder8, judged by what they look like.

`candidates` selects them, `patches` describes each by numbers, in compiled code; `model` is the
small ensemble of networks that makes probabilities of them, and its files; `learned_peaks` is the
finder that settings name. The networks are trained in `tuner.spots`, with PyTorch; here is none of
it.
"""
