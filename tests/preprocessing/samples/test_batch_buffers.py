import numpy as np
import pytest

from pelagos.preprocessing.samples.batch_buffers import SampleShapes

PAIRS = SampleShapes(inputs=(3, 4, 5), targets=(2, 4, 5), forcings=(0, 1, 4, 5))
ROLLOUTS = SampleShapes(inputs=(3, 4, 5), targets=(3, 2, 4, 5), forcings=(2, 1, 4, 5))


@pytest.mark.parametrize("shapes", [PAIRS, ROLLOUTS])
def test_kernels_fill_the_same_memory(shapes: SampleShapes) -> None:
    buffers = shapes.buffers(6)
    steps = shapes.forcings[0] + 1
    assert buffers.flat.inputs.shape == (6, 3, 20)
    assert buffers.flat.targets.shape == buffers.flat.mask.shape == (6, steps, 2, 20)
    assert buffers.flat.forcings.shape == (6, steps - 1, 1, 20)
    for part, flat in (
        (buffers.inputs, buffers.flat.inputs),
        (buffers.targets, buffers.flat.targets),
        (buffers.mask, buffers.flat.mask),
    ):
        assert np.shares_memory(part, flat)


def test_every_target_exists_until_a_reader_says_otherwise() -> None:
    assert ROLLOUTS.buffers(2).mask.all()


@pytest.mark.parametrize(("shapes", "fields"), [(PAIRS, 3 + 2), (ROLLOUTS, 3 + 3 * 2 + 2 * 1)])
def test_a_sample_takes_the_bytes_of_its_fields(shapes: SampleShapes, fields: int) -> None:
    assert shapes.buffers(7).sample_bytes == 4 * fields * 4 * 5
    assert shapes.buffers(0).sample_bytes == 0
