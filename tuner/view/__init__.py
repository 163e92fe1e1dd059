"""`sfx-tuner view`: frames, their peaks, and what a parameter set leads to, by hand.

`sight` answers what is to be seen, `server` gives it to a browser of this machine.
"""
