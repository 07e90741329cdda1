"""Batch ring: memory for a few batches that is filled again and again, and that processes can share.

Shapes: B samples, K forecast steps, C channels, F of them forcing, H rows, W columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.samples.batch import LoadedBatch
from pelagos.preprocessing.samples.dataset import Dataset
from pelagos.preprocessing.samples.sample_reader import BatchBuffers

_PAGE = 4096  # bytes; arrays begin at pages, so any type is aligned


@dataclass(frozen=True)
class RingShape:
    """How much memory the batches of some datasets need.

    Attributes:
        depth: number of slots.
        micro_batch: samples in a batch.
        inputs: number of values in the largest batch's inputs.
        targets: number of values in its targets.
        forcings: number of values in its forcings.
    """

    depth: int
    micro_batch: int
    inputs: int
    targets: int
    forcings: int

    @classmethod
    def fitting(cls, datasets: Sequence[Dataset], micro_batch: int, depth: int) -> "RingShape":
        """For batches of any of the datasets."""
        shapes = ((s.inputs, s.targets, s.forcings) for s in (d.shapes for d in datasets))
        # Each part by itself: the dataset with the largest inputs need not have the largest targets.
        largest = (max(map(prod, parts)) for parts in zip(*shapes, strict=True))
        return cls(depth, micro_batch, *(micro_batch * size for size in largest))

    @property
    def _arrays(self) -> tuple[tuple[type[np.generic], int], ...]:
        """Type and size of inputs, targets, mask and forcings."""
        floats, flags = np.float32, np.bool_
        return (floats, self.inputs), (floats, self.targets), (flags, self.targets), (floats, self.forcings)

    @property
    def bytes(self) -> int:
        """Memory of all slots [bytes]."""
        return self.depth * sum(_rounded(np.dtype(dtype).itemsize * size) for dtype, size in self._arrays)

    def slots(self, memory: NDArray[np.uint8]) -> list["Slot"]:
        """The slots of a ring in this memory."""
        slots, start = [], 0
        for _ in range(self.depth):
            arrays: list[NDArray[Any]] = []
            for dtype, size in self._arrays:
                length = np.dtype(dtype).itemsize * size
                arrays.append(memory[start : start + length].view(dtype))
                start += _rounded(length)
            inputs, targets, mask, forcings = arrays
            slots.append(Slot(inputs, targets, mask, forcings))
        return slots


def _rounded(length: int) -> int:
    return -(-length // _PAGE) * _PAGE


@dataclass(eq=False)
class Slot:
    """One slot of the ring: memory for a batch of any of the datasets, and what is in it.

    Attributes:
        inputs: flat memory of the inputs.
        targets: flat memory of the targets.
        mask: flat memory of the mask.
        forcings: flat memory of the forcings.
        views: the same memory in the shape of each dataset's batches.
        batch: the batch in it.
        error: why there is none.
        copied: an event after which copies to the device have ended.
    """

    inputs: NDArray[np.float32]
    targets: NDArray[np.float32]
    mask: NDArray[np.bool_]
    forcings: NDArray[np.float32]
    views: dict[int, BatchBuffers] = field(default_factory=dict)
    batch: LoadedBatch | None = None
    error: BaseException | None = None
    copied: Any = None

    def buffers(
        self, number: int, dataset: Dataset, num: int, present: NDArray[np.bool_], *, scaled: bool = True
    ) -> BatchBuffers:
        """The memory in the shape of a dataset's batch.

        Args:
            number: position of the dataset in the order.
            dataset: the dataset itself.
            num: samples in a batch.
            present: the mask of datasets without missing values, shared by all slots and never written to.
            scaled: whether the batch will be normalised here, of which there is one answer a slot.
        """
        if number not in self.views:
            mask = present if dataset.complete else self.mask
            dtype = dataset.loaded_type(scaled=scaled)
            self.views[number] = BatchBuffers(
                inputs=_carved(self.inputs.view(dtype), (num, *dataset.shapes.inputs)),
                targets=_carved(self.targets.view(dtype), (num, *dataset.shapes.targets)),
                mask=_carved(mask, (num, *dataset.shapes.targets)),
                forcings=_carved(self.forcings.view(dtype), (num, *dataset.shapes.forcings)),
            )
        return self.views[number]


def _carved(flat: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    return flat[: prod(shape)].reshape(shape)
