import numpy as np
import pytest
import torch

from pelagos.preprocessing.array_types import Float32s
from pelagos.preprocessing.samples.batch_buffers import SampleShapes
from pelagos.preprocessing.samples.batch_scaling import BatchScaling
from pelagos.preprocessing.samples.fill_kernels import FillTask, fill_samples
from pelagos.preprocessing.samples.normalize import Normalizer
from pelagos.preprocessing.store.frame_reader import FrameLocations

STATE = Normalizer(("u", "v", "heating"), np.array([1.3, -200, 0.1]), np.array([0.7, 3e3, 1e-4]))


def scaling(*, complete: bool) -> BatchScaling:
    return BatchScaling(STATE, STATE.select(("u", "v")), STATE.select(("heating",)), complete=complete)


def fields(*shape: int, missing: bool) -> Float32s:
    values = np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)
    if missing:
        values[..., 0] = np.nan
    return values


@pytest.mark.parametrize("missing", [False, True])
def test_kernels_and_tensors_give_the_same_bits(missing: bool) -> None:
    buffers = SampleShapes((3, 4, 5), (2, 2, 4, 5), (1, 1, 4, 5)).buffers(6)
    for part in (buffers.inputs, buffers.targets, buffers.forcings):
        part[:] = fields(*part.shape, missing=missing)
    scale = scaling(complete=not missing)
    raw = [torch.from_numpy(part.copy()) for part in (buffers.inputs, buffers.targets, buffers.forcings)]
    inputs, targets, mask, forcings = scale.apply(*raw)
    nowhere = FrameLocations(np.zeros((6, 3), np.int64), np.zeros((6, 3), np.int64))
    task = FillTask(read=False, scaled=True, complete=scale.complete)
    assert fill_samples((0, 6), nowhere, buffers.flat, 2, scale.scales, task) == 6
    for tensor, filled in (
        (inputs, buffers.inputs),
        (targets, buffers.targets),
        (mask, buffers.mask),
        (forcings, buffers.forcings),
    ):
        assert np.array_equal(tensor.numpy(), filled)
    assert mask.all() != missing


def test_normalised_values_are_those_of_the_normaliser() -> None:
    x = fields(2, 3, 4, 5, missing=False)
    inputs, *_ = scaling(complete=True).apply(
        torch.from_numpy(x), torch.zeros(2, 2, 4, 5), torch.zeros(2, 0, 1, 4, 5)
    )
    assert inputs.numpy() == pytest.approx(STATE.normalize(x), rel=1e-5, abs=1e-5)


def test_arguments_stay_as_they_are() -> None:
    raw = [torch.from_numpy(fields(2, n, 4, 5, missing=True)) for n in (3, 2)] + [torch.zeros(2, 0, 1, 4, 5)]
    before = [part.clone() for part in raw]
    scaling(complete=False).apply(*raw)
    for part, same in zip(raw, before, strict=True):
        assert torch.equal(part.nan_to_num(7), same.nan_to_num(7))
