"""Rounding float32 values to fewer mantissa bits, so that they compress better."""

import numpy as np
from numpy.typing import NDArray


def round_mantissa(values: NDArray[np.float32], bits: int) -> float:
    """Round values in place to the nearest with so many explicit mantissa bits, ties to even.

    The method is BitRound (Kloewer et al. 2021). Values that are not finite stay as they are.

    Returns:
        The largest relative error, at most 2^-(bits + 1) for normal numbers.
    """
    assert 1 <= bits <= 22
    before = values.copy()
    raw = values.view(np.uint32)
    dropped = 23 - bits
    finite = np.isfinite(values)
    # Adding just under half of the last bit kept, and that bit itself, lets the carry round to even.
    half = (raw >> dropped & 1) + np.uint32((1 << (dropped - 1)) - 1)
    rounded = (raw + half) >> dropped << dropped
    raw[finite] = rounded[finite]
    normal = finite & (np.abs(before) >= np.finfo(np.float32).tiny)
    errors = np.abs(values[normal].astype(np.float64) - before[normal]) / np.abs(before[normal])
    return float(errors.max(initial=0.0))
