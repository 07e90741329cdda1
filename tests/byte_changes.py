"""Damage to files, one bit at a time, for tests of what their checksums promise."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np


def one_bit_changes(file: Path, times: int, rng: np.random.Generator) -> Iterator[None]:
    """Change a bit at a random place, each time anew in the file as it was; at the end that is restored."""
    content = file.read_bytes()
    for place in rng.integers(len(content), size=times):
        changed = bytearray(content)
        changed[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(changed)
        yield
    file.write_bytes(content)
