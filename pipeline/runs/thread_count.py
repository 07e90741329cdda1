"""Thread count: how many threads compute, for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def kept_threads() -> Iterator[None]:
    """Leave the number of threads as it was before, whatever is set meanwhile."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Compute with so many threads: on some processors transforms and sums round by their number."""
    with kept_threads():
        torch.set_num_threads(number)
        yield
