import os
import subprocess
import sys

PROGRAM = """
import numpy as np
from pelagos.preprocessing.samples.fill_kernels import FillTask, FlatBuffers, Scales, fill_samples
from pelagos.preprocessing.store.frame_reader import FrameLocations
x = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
y, none = x[:, None].copy(), np.empty((1, 0, 0, 3), np.float32)
scale = np.array([[1, 2], [2, 0.5]], np.float32)
nowhere = FrameLocations(np.zeros((1, 2), np.int64), np.zeros((1, 2), np.int64))
task = FillTask(read=False, scaled=True, complete=True)
planes, scales = FlatBuffers(x, y, np.ones(y.shape, bool), none), Scales(scale, scale, scale[:, :0])
assert fill_samples((0, 1), nowhere, planes, 2, scales, task) == 1
assert x.tolist() == [[[-2, 0, 2], [0.5, 1, 1.5]]], x
assert y[:, 0].tolist() == x.tolist()
print(fill_samples.stats.cache_path)
"""


def test_kernels_need_no_folder_to_be_kept_in() -> None:
    # A locator that finds none outside of IPython stands for folders that are all read-only.
    environment = os.environ | {"NUMBA_CACHE_LOCATOR_CLASSES": "IPythonCacheLocator"}
    command = [sys.executable, "-W", "error", "-c", PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "None\n"
