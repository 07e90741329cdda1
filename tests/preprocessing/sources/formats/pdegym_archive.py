"""Files of PDEGym for tests, as the hub has them."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

RNG = np.random.default_rng(0)


def store(path: Path, **arrays: Any) -> Path:
    """A file as the hub has it: named arrays, nothing else."""
    with h5py.File(path, "w") as file:
        for key, values in arrays.items():
            file[key] = values
    return path


def values(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)
