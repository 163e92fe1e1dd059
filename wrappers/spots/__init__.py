"""The learned peak finder: candidates of peakfinder8, judged by what they look like.

`candidates` has them found, `ranking` says which are worth describing, `patches` describes each by
numbers, all in compiled code on an `image`; `model` is the small ensemble of networks that makes
probabilities of them, and its files; `learned_peaks` is the finder that settings name. The networks
are trained in `tuner.spots`, with PyTorch; here is none of it.
"""
