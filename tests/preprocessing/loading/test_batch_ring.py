"""The ring's memory: slots that share nothing, aligned for every type, in the shape of each dataset's batches."""

from dataclasses import replace

import numpy as np
import pytest
from two_stores import build_stores

from pelagos.preprocessing.loading.batch_ring import RingShape
from pelagos.preprocessing.samples.dataset import Dataset, DatasetConfig

PARTS = ("inputs", "targets", "mask", "forcings")


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> list[Dataset]:
    return [DatasetConfig(path=path).open() for path in build_stores(tmp_path_factory.mktemp("stores"))]


def test_the_largest_dataset_sets_the_size(datasets: list[Dataset]) -> None:
    both, alone = (RingShape.fitting(some, 5, depth=3) for some in (datasets, datasets[:1]))
    assert both.inputs == max(5 * int(np.prod(dataset.shapes.inputs)) for dataset in datasets)
    assert both.inputs >= alone.inputs
    assert replace(both, depth=6).bytes == 2 * both.bytes


def test_no_two_arrays_share_memory() -> None:
    shape = RingShape(depth=3, micro_batch=1, inputs=5, targets=7, forcings=3)
    memory = np.zeros(shape.bytes, np.uint8)
    arrays = [getattr(slot, part) for slot in shape.slots(memory) for part in PARTS]
    for number, array in enumerate(arrays):
        array[:] = number % 2
    assert [set(array.tolist()) for array in arrays] == [{number % 2} for number in range(12)]
    assert sum(array.nbytes for array in arrays) == 3 * (4 * (5 + 7 + 3) + 7)


def test_slots_have_the_shape_of_each_dataset(datasets: list[Dataset]) -> None:
    shape = RingShape.fitting(datasets, 5, depth=2)
    slot, _ = shape.slots(np.zeros(shape.bytes, np.uint8))
    present = np.ones(shape.targets, bool)
    for number, dataset in enumerate(datasets):
        buffers = slot.buffers(number, dataset, 5, present)
        assert buffers.inputs.shape == (5, *dataset.shapes.inputs)
        assert buffers.targets.shape == buffers.mask.shape == (5, *dataset.shapes.targets)
        assert np.shares_memory(buffers.inputs, slot.inputs)
        # A dataset without missing values shares one mask that is never written.
        assert np.shares_memory(buffers.mask, present) == dataset.complete
        assert slot.buffers(number, dataset, 5, present) is buffers
    assert {dataset.complete for dataset in datasets} == {True, False}
