"""Format: what readers and builds of a store agree on by number."""

import numpy as np
from numpy.typing import NDArray

FORMAT = 1
"""Of the store on disk; raised when an older reader would misread what a newer build writes."""
CODED_FORMAT = 2
"""Of stores in 16 bits, which readers of the first format would take for values as they are."""
SPLITS = ("train", "valid", "test")
"""The splits by their codes, from 0 on."""
UNUSED = -1
"""The code of frames in no split."""
ABSENT = -2
"""The code of frames that a trajectory does not have because others last longer."""
SplitCodes = NDArray[np.int8]
"""(trajectory, time) the split of each frame."""
