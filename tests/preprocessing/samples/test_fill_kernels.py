import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pelagos.preprocessing.array_types import Float32s
from pelagos.preprocessing.samples.fill_kernels import FillTask, Scales, fill_samples
from pelagos.preprocessing.samples.sample_reader import BatchBuffers, SampleShapes
from pelagos.preprocessing.store.frame_reader import FrameLocations

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
    # Below a file there can be no folder, whoever runs the tests.
    environment = os.environ | {"NUMBA_CACHE_DIR": "/dev/null"}
    command = [sys.executable, "-W", "error", "-c", PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "None\n"


NUM, STEPS = 3, 2
SHAPES = SampleShapes(inputs=(3, 4, 5), targets=(STEPS, 2, 4, 5), forcings=(STEPS - 1, 1, 4, 5))
"""Channels of a frame: u, prognostic, then heating, forcing, then rain, diagnostic. Inputs: u, depth, heating."""
SCALES = Scales(*(np.array([[0] * n, [1] * n], np.float32) for n in (3, 2, 1)))
AS_READ = FillTask(read=True, scaled=False, complete=True)


@pytest.fixture
def frames() -> Float32s:
    """(sample, time, channel, y, x)."""
    return np.random.default_rng(0).normal(size=(NUM, STEPS + 1, 3, 4, 5)).astype(np.float32)


def assert_filled(buffers: BatchBuffers, frames: Float32s) -> None:
    assert np.array_equal(buffers.inputs[:, 0], frames[:, 0, 0])
    assert np.array_equal(buffers.inputs[:, 2], frames[:, 0, 1])
    assert np.array_equal(buffers.targets, frames[:, 1:, [0, 2]])
    assert np.array_equal(buffers.forcings[:, :, 0], frames[:, 1:-1, 1])
    assert (buffers.inputs[:, 1] == 7).all(), "static fields are there already"


def locations(frames: Float32s, file: int, start: int) -> FrameLocations:
    files = np.full(frames.shape[:2], file)
    return FrameLocations(files, start + np.arange(files.size).reshape(files.shape) * frames[0, 0].nbytes)


def test_channels_of_frames_go_where_samples_have_them(frames: Float32s, tmp_path: Path) -> None:
    (tmp_path / "frames").write_bytes(b"head" + frames.tobytes())
    descriptor = os.open(tmp_path / "frames", os.O_RDONLY)
    for where in (locations(frames, descriptor, 4), locations(frames, -1, frames.ctypes.data)):
        buffers = SHAPES.buffers(NUM)
        buffers.inputs[:, 1] = 7
        assert fill_samples((0, NUM), where, buffers.flat, 1, SCALES, AS_READ) == NUM
        assert_filled(buffers, frames)
    os.close(descriptor)


def test_the_first_sample_that_is_not_whole_is_told(frames: Float32s, tmp_path: Path) -> None:
    (tmp_path / "frames").write_bytes(frames.tobytes()[: frames[:2].nbytes - 1])
    descriptor = os.open(tmp_path / "frames", os.O_RDONLY)
    where, flat = locations(frames, descriptor, 0), SHAPES.buffers(NUM).flat
    assert fill_samples((0, NUM), where, flat, 1, SCALES, AS_READ) == 1
    assert fill_samples((0, 1), where, flat, 1, SCALES, AS_READ) == 1
    os.close(descriptor)


def test_missing_values_are_zero_and_only_targets_have_a_mask(frames: Float32s) -> None:
    frames[0, 0, 0, 1, 2] = frames[1, 1, 2, 0, 0] = np.nan
    frames[2, 2, 0, 3, 3] = np.inf
    buffers = SHAPES.buffers(NUM)
    buffers.inputs[:, 1] = 0
    task = FillTask(read=True, scaled=True, complete=False)
    where = locations(frames, -1, frames.ctypes.data)
    assert fill_samples((0, NUM), where, buffers.flat, 1, SCALES, task) == NUM
    assert np.array_equal(buffers.mask, np.isfinite(frames[:, 1:, [0, 2]]))
    assert (buffers.targets[~buffers.mask] == 0).all()
    assert buffers.inputs[0, 0, 1, 2] == 0
    assert np.isfinite(buffers.inputs).all()
