"""Fill kernels: a batch is read and normalised by one compiled call, which threads run side by side.

A call a frame would hand Python's lock over each time: two threads then took 50 µs a pair, no less than one thread
alone, against 20 to 24 µs here. numba rather than a C extension, since users may have no compiler.

Shapes: B samples, K forecast steps, C channels, F of them forcing, P points of a grid.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numba
import numpy as np

from pelagos.preprocessing.array_types import Flags, Float32s
from pelagos.preprocessing.samples.kernel_cache import compiled
from pelagos.preprocessing.store.frame_reader import FrameLocations

_Function = TypeVar("_Function", bound=Callable[..., Any])
_BLOCK_BYTES = 1 << 18  # read at a time, then normalised while the core's second-level cache still holds them
_types = numba.types
_pread = _types.ExternalFunction("pread", _types.intp(_types.intc, _types.uintp, _types.uintp, _types.int64))
_memcpy = _types.ExternalFunction("memcpy", _types.uintp(_types.uintp, _types.uintp, _types.uintp))


class FlatBuffers(NamedTuple):
    """Memory for a batch, with each field flattened to a row of points.

    Attributes:
        inputs: (B, A C_in, P): the initial frame, then A - 1 earlier ones.
        targets: (B, K, C_out, P).
        mask: which targets exist, in the shape of the targets.
        forcings: (B, K - 1, F, P), or (B, K, F, P) where networks see those of the valid time.
    """

    inputs: Float32s
    targets: Float32s
    mask: Flags
    forcings: Float32s


class Scales(NamedTuple):
    """Mean and inverse standard deviation of each channel.

    Attributes:
        inputs: (2, C_in): prognostic, then static, then forcing.
        outputs: (2, C_out): prognostic, then diagnostic.
        forcings: (2, F).
    """

    inputs: Float32s
    outputs: Float32s
    forcings: Float32s


class FillTask(NamedTuple):
    """What is to be done with the frames of a batch.

    Attributes:
        read: whether to read them; else they are in the buffers already.
        scaled: whether to normalise them.
        complete: whether no value is missing anywhere. Where one may be, normalising also replaces missing values by
            0 and marks them in the mask.
    """

    read: bool
    scaled: bool
    complete: bool


def _compiled(function: _Function) -> _Function:
    # The types of other modules are part of what is compiled.
    return compiled(function, [FrameLocations])


@_compiled
def fill_samples(
    rows: tuple[int, int],
    locations: FrameLocations,
    buffers: FlatBuffers,
    num_prognostic: int,
    scales: Scales,
    task: FillTask,
) -> int:
    """Fill a range of samples.

    Static channels are in the inputs already, in physical units: they are only normalised.

    Args:
        rows: the batch's rows to fill: the first, and the one after the last.
        locations: of its frames: the initial one, that of each step to be filled, and the earlier ones. A frame is
            prognostic, then forcing, then diagnostic channels.
        buffers: the memory to fill.
        num_prognostic: channels that are both inputs and targets.
        scales: the scales of all channels.
        task: what is to be done.

    Returns:
        The first sample whose frames could not be read whole, or the end of `rows`.
    """
    num_inputs, num_forcing = scales.inputs.shape[1], scales.forcings.shape[1]
    first_forcing = num_inputs - num_forcing
    num_earlier = buffers.inputs.shape[1] // num_inputs - 1
    steps = locations.files.shape[1] - 1 - num_earlier
    # Those that later steps start from; and that of the last valid time, where there is room for it.
    num_forced = steps - 1 + buffers.forcings.shape[1] - (buffers.targets.shape[1] - 1)
    field_bytes = 4 * buffers.inputs.shape[2]
    scale_only, no_mask = FillTask(False, task.scaled, task.complete), np.empty((0, 0), np.bool_)
    prognostic, diagnostic = slice(0, num_prognostic), slice(num_prognostic, None)
    static, forcing = slice(num_prognostic, first_forcing), slice(first_forcing, None)
    for n in range(*rows):
        scale = scales.inputs
        whole = _fill(0, 0, buffers.inputs[n, static], no_mask, scale[:, static], scale_only)
        for age in range(num_earlier + 1):
            column = steps + age if age else 0
            file, start = locations.files[n, column], locations.starts[n, column]
            x_CP = buffers.inputs[n, age * num_inputs : (age + 1) * num_inputs]
            whole &= _fill(file, start, x_CP[prognostic], no_mask, scale[:, prognostic], task)
            start += num_prognostic * field_bytes
            whole &= _fill(file, start, x_CP[forcing], no_mask, scale[:, forcing], task)
            if age:
                x_CP[static] = buffers.inputs[n, static]
        for k in range(steps):
            file, start = locations.files[n, k + 1], locations.starts[n, k + 1]
            y_CP, mask_CP, scale = buffers.targets[n, k], buffers.mask[n, k], scales.outputs
            whole &= _fill(file, start, y_CP[prognostic], mask_CP[prognostic], scale[:, prognostic], task)
            start += num_prognostic * field_bytes
            if k < num_forced:
                whole &= _fill(file, start, buffers.forcings[n, k], no_mask, scales.forcings, task)
            start += num_forcing * field_bytes
            whole &= _fill(file, start, y_CP[diagnostic], mask_CP[diagnostic], scale[:, diagnostic], task)
        if not whole:
            return n
    return rows[1]


@_compiled
def _fill(file: int, start: int, x_CP: Float32s, mask_CP: Flags, scale: Float32s, task: FillTask) -> bool:
    """Fill consecutive channels block by block; whether they could be read whole."""
    channels, points = x_CP.shape
    step = max(1, _BLOCK_BYTES // (4 * points))
    for first in range(0, channels, step):
        last = min(first + step, channels)
        address, length = x_CP[first:last].ctypes.data, 4 * points * (last - first)
        if task.read and file < 0:
            # Copied, then normalised: normalising on the way would read the memory that it is about to write
            # (25.3 µs a pair instead of 23.8).
            _memcpy(address, start, length)
        elif task.read and _pread(file, address, length, start) != length:
            return False
        start += length
        if task.scaled:
            for c in range(first, last):
                _normalise(x_CP[c], mask_CP[c : c + 1], scale[0, c], scale[1, c], task.complete)
    return True


@_compiled
def _normalise(
    x_P: Float32s, mask_1P: Flags, mean: np.float32, inverse_std: np.float32, complete: bool
) -> None:
    """Normalise one channel; missing values become 0 and are marked in the mask, if there is one."""
    for p in range(len(x_P)):
        x_P[p] = (x_P[p] - mean) * inverse_std
    if complete:
        return
    if len(mask_1P):
        for p in range(len(x_P)):
            mask_1P[0, p] = np.isfinite(x_P[p])
            x_P[p] = x_P[p] if mask_1P[0, p] else np.float32(0)
    else:
        for p in range(len(x_P)):
            x_P[p] = np.float32(0) if np.isnan(x_P[p]) else x_P[p]
