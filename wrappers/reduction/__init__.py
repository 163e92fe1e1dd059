"""The reduction core: from a run to its hits, with the settings found for it.

============ ================================================================================
`core`       `reduce_run`: batches of frames to processes, the end
`plan`       the folder of the parts: who owns it, its batches, resuming
`placed`     a frame that was searched, where the settings put its detector
`parts`      what one process does: a batch of frames becomes a part file
`hits_file`  the hits of a stream, written frame by frame
`joining`    part files become one CXI file, with images copied or virtual, and its geometry
============ ================================================================================
"""

from wrappers.reduction.core import OtherInputs, Reduction, reduce_run
from wrappers.reduction.parts import SettingsSet

__all__ = ["OtherInputs", "Reduction", "SettingsSet", "reduce_run"]
