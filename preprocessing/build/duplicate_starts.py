"""Finding trajectories in different splits that start from the same fields, whose scores would measure memory.

Shapes: N trajectories, T times, C channels, H rows, W columns.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.fields.field_reader import FieldReader
from pelagos.preprocessing.fields.store_channel import StoreChannel
from pelagos.preprocessing.store.format import SPLITS, SplitCodes

_BLOCK = 8 << 20  # bytes of first frames in memory at a time


def initial_digests(x_NTCHW: NDArray[np.float32], channels: Sequence[StoreChannel]) -> list[str]:
    """A digest of each trajectory's initial condition; empty where it is uniform, as in flow from rest.

    The initial condition is the prognostic channels of the first frame, or the diagnostic ones where none is
    prognostic.
    """
    compared = _compared(channels)
    return [_digest([frames[0, channel] for channel in compared]) for frames in x_NTCHW]


def read_initial_digests(fields: FieldReader) -> list[str]:
    """A digest of the initial condition of every trajectory of a source.

    Raises:
        DamagedFileError: the source cannot be read.
    """
    # Only what is compared is read: forcings and diagnostic fields need not be computed.
    fields = replace(fields, state=tuple(fields.state[channel] for channel in _compared(fields.state)))
    step = max(1, _BLOCK // (4 * max(1, len(fields.state)) * prod(fields.grid.shape)))
    digests: list[str] = []
    for start in range(0, fields.num_trajectories, step):
        rows = slice(start, min(start + step, fields.num_trajectories))
        block = fields.read(rows, slice(0, 1))
        fields.round(block)  # as stored: digests of parts are of rounded values, too
        digests += initial_digests(block, fields.state)
    return digests


def _compared(channels: Sequence[StoreChannel]) -> list[int]:
    roles = [channel.variable.role for channel in channels]
    wanted = "prognostic" if "prognostic" in roles else "diagnostic"
    return [number for number, role in enumerate(roles) if role == wanted]


def _digest(fields: Sequence[NDArray[np.float32]]) -> str:
    # Missing values do not count: flow from rest around a body is uniform as well.
    if not any(np.fmin.reduce(field, None) < np.fmax.reduce(field, None) for field in fields):
        return ""
    # Not against attacks, only to tell some millions of fields apart.
    digest = hashlib.blake2b(digest_size=8)
    for field in fields:
        digest.update(field.data)
    return digest.hexdigest()


def duplicate_warning(digests: Sequence[str], codes_NT: SplitCodes) -> str:
    """A warning about trajectories in different splits that start alike; empty if there are none."""
    alike, counts = defaultdict(list), Counter(digests)
    for trajectory, digest in enumerate(digests):
        if digest and counts[digest] > 1 and (names := _splits(codes_NT[trajectory])):
            alike[digest].append((trajectory, names))
    torn = [group for group in alike.values() if len({names for _, names in group}) > 1]
    if not torn:
        return ""
    (one, here), *others = torn[0]
    two, there = next(other for other in others if other[1] != here)
    more = f", and so do {len(torn) - 1} more groups" if len(torn) > 1 else ""
    return (
        f"trajectory {one} ({here}) and trajectory {two} ({there}) begin with the same fields{more}, so scores would "
        "measure memory; keep them in one split by splits.group_by=[initial_condition] or by ranges"
    )


def _splits(codes_T: NDArray[np.int8]) -> str:
    return ", ".join(SPLITS[code] for code in np.unique(codes_T) if code >= 0)
