import numpy as np
import pytest
import torch

from pelagos.preprocessing.array_types import Float32s
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.layout import Layout
from pelagos.preprocessing.samples.batch import BatchScaling, Kind, UnscaledBatch
from pelagos.preprocessing.samples.fill_kernels import FillTask, fill_samples
from pelagos.preprocessing.samples.normalize import Normalizer
from pelagos.preprocessing.samples.sample_reader import SampleShapes
from pelagos.preprocessing.store.frame_reader import FrameLocations

LAYOUT = Layout("a", (), (), Grid(kind="cartesian", y=np.arange(4.0), x=np.arange(4.0)))
SCALE = Normalizer(("u",), np.array([1.0]), np.array([2.0]))


def unscaled(kind: Kind = "pairs") -> UnscaledBatch:
    """Three samples of one channel, of which one value is missing."""
    steps = () if kind == "pairs" else (2,)
    targets = torch.randn(3, *steps, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    targets[0, ..., 3] = torch.nan
    return UnscaledBatch(
        layout=LAYOUT,
        inputs=torch.full((3, 1, 4, 4), 5.0),
        targets=targets,
        forcings=torch.zeros(3, len(steps), 0, 4, 4),
        lead_time=torch.ones(3),
        scalars=torch.zeros(3, 0),
        index=torch.arange(9).reshape(3, 3),
        kind=kind,
        scaling=BatchScaling(SCALE, SCALE, SCALE.select(()), complete=False),
    )


@pytest.mark.parametrize(("kind", "steps"), [("pairs", 1), ("windows", 2), ("rollouts", 2)])
def test_steps_are_the_frames_that_are_forecast_scaled_or_not(kind: Kind, steps: int) -> None:
    raw = unscaled(kind)
    assert raw.steps == raw.to("cpu").steps == steps
    assert len(raw) == len(raw.to("cpu")) == 3


def test_a_batch_is_normalised_on_its_way_and_only_there() -> None:
    raw = unscaled()
    before = raw.targets.clone()
    batch = raw.to("cpu")
    assert torch.equal(batch.inputs, torch.full((3, 1, 4, 4), 2.0))
    assert torch.equal(batch.mask, before.isfinite())
    assert (batch.targets[~batch.mask] == 0).all()
    assert torch.equal(batch.targets[batch.mask], (before[batch.mask] - 1) / 2)
    assert torch.equal(raw.targets.nan_to_num(), before.nan_to_num()), "it can be brought there again"
    assert batch.index is raw.index
    assert (batch.layout, batch.kind) == (raw.layout, raw.kind)


def test_a_batch_that_is_there_stays_as_it_is() -> None:
    batch = unscaled("rollouts").to("cpu")
    again = batch.to("cpu")
    for name in ("inputs", "targets", "mask", "forcings", "lead_time", "scalars", "index"):
        assert getattr(again, name) is getattr(batch, name), name


def test_all_but_the_index_goes_to_the_device() -> None:
    batch = unscaled().to("cpu").to("meta")
    places = {
        name: getattr(batch, name).device.type for name in ("inputs", "targets", "mask", "lead_time", "index")
    }
    assert places == {
        "inputs": "meta",
        "targets": "meta",
        "mask": "meta",
        "lead_time": "meta",
        "index": "cpu",
    }


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
