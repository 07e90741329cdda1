"""Kernels: loops over the frames of a batch, compiled, so that threads run them side by side.

In Python each frame is a call that hands the interpreter's lock over, which takes longer than half of a
frame's copy; here it is one for a batch.

Shapes: B samples, K forecast steps, C channels, F of them forcing, P points of a grid.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.store.shard_reader import Places

Frames = NDArray[np.float32]
Flags = NDArray[np.bool_]
_Function = TypeVar("_Function", bound=Callable[..., Any])
_PIECE = 1 << 18  # bytes that are read, then normalised while the core's cache still holds them
_types = numba.types
_pread = _types.ExternalFunction("pread", _types.intp(_types.intc, _types.uintp, _types.uintp, _types.int64))
_memcpy = _types.ExternalFunction("memcpy", _types.uintp(_types.uintp, _types.uintp, _types.uintp))


class Planes(NamedTuple):
    """Memory for a batch, its grids as rows.

    Attributes:
        inputs: (B, C_in, P).
        targets: (B, K, C_out, P).
        mask: in the shape of the targets.
        forcings: (B, K - 1, F, P).
    """

    inputs: Frames
    targets: Frames
    mask: Flags
    forcings: Frames


class Scales(NamedTuple):
    """Mean and inverse deviation of channels.

    Attributes:
        inputs: (2, C_in): prognostic, then static, then forcing.
        outputs: (2, C_out): prognostic, then diagnostic.
        forcings: (2, F).
    """

    inputs: Frames
    outputs: Frames
    forcings: Frames


class Task(NamedTuple):
    """What is to be done.

    Attributes:
        read: whether frames come from files; else they are in memory already.
        scaled: whether they are normalised.
        complete: whether no value is missing anywhere; else those that are become 0 where the others are normalised.
    """

    read: bool
    scaled: bool
    complete: bool


def _compiled(function: _Function) -> _Function:
    """Compiled at the first call for this processor, and kept on disk for the next process."""
    try:
        return cast(_Function, numba.njit(nogil=True, cache=True)(function))
    except RuntimeError:  # nowhere to keep it: neither beside this file nor in the user's cache
        return cast(_Function, numba.njit(nogil=True)(function))


@_compiled
def fill_samples(
    rows: tuple[int, int], places: Places, planes: Planes, prognostic: int, scales: Scales, task: Task
) -> int:
    """Fill samples from the first to before the last of `rows`.

    Static channels of the inputs are there already, in physical units.

    Args:
        rows: of the batch.
        places: of their frames; as many steps are filled.
        planes: to fill.
        prognostic: channels that are inputs and targets.
        scales: of all channels.
        task: what is to be done.

    Returns:
        The first sample whose frames could not be read whole, or the last of `rows`.
    """
    steps, num_forcing = places.files.shape[1] - 1, scales.forcings.shape[1]
    after = planes.inputs.shape[1] - num_forcing
    plane = 4 * planes.inputs.shape[2]
    held, unmarked = Task(False, task.scaled, task.complete), np.empty((0, 0), np.bool_)
    for n in range(*rows):
        file, start = places.files[n, 0], places.starts[n, 0]
        x_CP, scale = planes.inputs[n], scales.inputs
        whole = _fill(file, start, x_CP[:prognostic], unmarked, scale[:, :prognostic], task)
        whole &= _fill(file, start, x_CP[prognostic:after], unmarked, scale[:, prognostic:after], held)
        start += prognostic * plane
        whole &= _fill(file, start, x_CP[after:], unmarked, scale[:, after:], task)
        for k in range(steps):
            file, start = places.files[n, k + 1], places.starts[n, k + 1]
            y_CP, mask_CP, scale = planes.targets[n, k], planes.mask[n, k], scales.outputs
            whole &= _fill(file, start, y_CP[:prognostic], mask_CP[:prognostic], scale[:, :prognostic], task)
            start += prognostic * plane
            if k < steps - 1:
                whole &= _fill(file, start, planes.forcings[n, k], unmarked, scales.forcings, task)
            start += num_forcing * plane
            whole &= _fill(file, start, y_CP[prognostic:], mask_CP[prognostic:], scale[:, prognostic:], task)
        if not whole:
            return n
    return rows[1]


@_compiled
def _fill(file: int, start: int, x_CP: Frames, mask_CP: Flags, scale: Frames, task: Task) -> bool:
    """Fill channels, piece by piece, so that they are normalised while the core's cache holds them."""
    channels, points = x_CP.shape
    step = max(1, _PIECE // (4 * points))
    for first in range(0, channels, step):
        last = min(first + step, channels)
        address, length = x_CP[first:last].ctypes.data, 4 * points * (last - first)
        if task.read and file < 0:
            # Not normalised on the way: the copy spares memory the reading of what it will write over.
            _memcpy(address, start, length)
        elif task.read and _pread(file, address, length, start) != length:
            return False
        start += length
        if task.scaled:
            for c in range(first, last):
                _normalise(x_CP[c], mask_CP[c : c + 1], scale[0, c], scale[1, c], task.complete)
    return True


@_compiled
def _normalise(x_P: Frames, mask_1P: Flags, mean: np.float32, inverse: np.float32, complete: bool) -> None:
    """Normalise one channel; where values may be missing they become 0, and the mask, if any, tells which."""
    for p in range(len(x_P)):
        x_P[p] = (x_P[p] - mean) * inverse
    if complete:
        return
    if len(mask_1P):
        for p in range(len(x_P)):
            mask_1P[0, p] = np.isfinite(x_P[p])
            x_P[p] = x_P[p] if mask_1P[0, p] else np.float32(0)
    else:
        for p in range(len(x_P)):
            x_P[p] = np.float32(0) if np.isnan(x_P[p]) else x_P[p]
