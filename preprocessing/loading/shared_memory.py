"""Shared memory: a block of memory that processes have in common."""

import mmap
import os

import numpy as np
from numpy.typing import NDArray


class SharedMemory:
    """Memory without a name, which the system frees with the last process that has it open, however that ends."""

    def __init__(self, size: int) -> None:
        # Not /dev/shm: containers give that 64 MB, and a killed process would leave its files there.
        self.descriptor = os.memfd_create("pelagos")
        os.ftruncate(self.descriptor, size)
        self.values = mapped(self.descriptor, size)

    def __del__(self) -> None:
        os.close(self.descriptor)


def mapped(descriptor: int, size: int) -> NDArray[np.uint8]:
    """Shared memory as an array."""
    return np.frombuffer(mmap.mmap(descriptor, size), np.uint8)
