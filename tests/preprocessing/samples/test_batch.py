import numpy as np
import pytest
import torch

from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.layout import Layout
from pelagos.preprocessing.samples.batch import Kind, UnscaledBatch
from pelagos.preprocessing.samples.batch_scaling import BatchScaling
from pelagos.preprocessing.samples.normalize import Normalizer

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
