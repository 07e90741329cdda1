"""Leakage: trajectories of different splits that begin alike, so that scores would be of what was learnt.

Shapes: N trajectories, T times, C channels, H rows, W columns.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.split import SPLITS, Codes


def beginnings(x_NTCHW: NDArray[np.float32], channels: Sequence[int]) -> list[str]:
    """A digest of some channels of each trajectory's first frame; empty where all are uniform, as in flow from rest."""
    return [_digest([frames[0, channel] for channel in channels]) for frames in x_NTCHW]


def _digest(fields: Sequence[NDArray[np.float32]]) -> str:
    if all((field == field.flat[0]).all() for field in fields):
        return ""
    digest = hashlib.blake2b(digest_size=8)
    for field in fields:
        digest.update(field.data)
    return digest.hexdigest()


def told(digests: Sequence[str], codes_NT: Codes) -> str:
    """What to warn of: trajectories in different splits that begin alike; empty if there are none."""
    alike = defaultdict(list)
    for trajectory, digest in enumerate(digests):
        if digest and (names := _splits(codes_NT[trajectory])):
            alike[digest].append((trajectory, names))
    torn = [group for group in alike.values() if len({names for _, names in group}) > 1]
    if not torn:
        return ""
    (one, here), *others = torn[0]
    two, there = next(other for other in others if other[1] != here)
    more = f", and so do {len(torn) - 1} more groups" if len(torn) > 1 else ""
    return (
        f"trajectory {one} ({here}) and trajectory {two} ({there}) begin with the same fields{more}: scores would "
        "be of what was learnt; keep them in one split by splits.group_by or by ranges"
    )


def _splits(codes_T: NDArray[np.int8]) -> str:
    return ", ".join(SPLITS[code] for code in np.unique(codes_T) if code >= 0)
