"""Labels by the equation: those of stored states are the stored frames, however samples are made or transformed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pelagos.models.layers.fourier_resample import fourier_resample
from pelagos.pipeline.training.equation_labels import EquationLabels, EquationLabelsConfig
from pelagos.preprocessing.errors import DataError, PelagosError
from pelagos.preprocessing.physics.spectral import truncate
from pelagos.preprocessing.samples.dataset import DatasetConfig
from pelagos.preprocessing.samples.normalize import Normalizer
from pelagos.preprocessing.store.store import open_store


def labels(store: Path, kind: str = "kolmogorov", **values: Any) -> EquationLabels:
    data = {"path": store, **values.pop("data", {})}
    config = EquationLabelsConfig.model_validate({"equation": {"kind": kind, **values}})
    return config.build(DatasetConfig.model_validate(data).open())


@pytest.mark.parametrize(
    "sampling",
    [{"kind": "pairs"}, {"kind": "windows", "steps": 2}, {"kind": "rollouts", "steps": 2, "lead": 2}],
)
def test_labels_of_stored_states_are_the_stored_frames(flow: Path, sampling: dict[str, Any]) -> None:
    # Lead time 1 is no whole number of frames; scalings give each sample a time step of its own.
    augment = {"equation": "kolmogorov", "scale": 1.5}
    made = labels(flow, data={"sampling": sampling, "time_scale": 0.03, "augment": augment})
    samples = np.arange(made.dataset.num_samples)
    for key in (None, (0, 4, 1)):
        batch = made.dataset.batch(samples, key=key)
        found = made.targets(batch, batch.inputs[:, :2])
        # The frames that they start from are stored in float32, and so are lead times.
        torch.testing.assert_close(found, batch.targets, rtol=0, atol=2e-5)


def test_a_finer_grid_of_the_solver_gives_the_same_labels_where_waves_are_resolved(flow: Path) -> None:
    made = labels(flow)
    finer = made.config.model_copy(update={"finer": 2}).build(made.dataset)
    batch = made.dataset.batch(np.arange(2))
    # Two waves a side, and a force of up to four: next to nothing is left out on sixteen points.
    smooth = fourier_resample(truncate(batch.inputs[:, :2], (6, 6)), (16, 16))
    found, wanted = finer.targets(batch, smooth), made.targets(batch, smooth)
    assert not torch.equal(found, wanted)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-2 * float((wanted - smooth).abs().max()))


@pytest.mark.parametrize(
    ("kind", "values", "said"),
    [
        ("burgers", {"components": 1}, "has velocity_y, which the burgers equation does not propagate"),
        ("wave", {}, "lacks displacement"),
        ("navier_stokes", {}, "static fields force_x, force_y, which the navier_stokes equation"),
        ("kolmogorov", {"length": 2.0}, "equation.length=1"),
        ("kolmogorov", {"data": {"history": [1]}}, "data.history"),
        ("kolmogorov", {"data": {"sampling": {"kind": "pairs", "identity": True}}}, "data.sampling.identity"),
    ],
)
def test_data_that_are_not_the_equations_are_refused_by_name(
    flow: Path, kind: str, values: dict[str, Any], said: str
) -> None:
    with pytest.raises(PelagosError, match=said):
        labels(flow, kind, **values)


def test_a_scalar_that_the_store_lacks_is_the_equations_or_asked_for(flow: Path) -> None:
    store = open_store(flow)
    drag = store.scalar_values[:, [store.params.index("drag")]]
    store = replace(store, params=("drag",), scalar_values=drag)
    dataset = DatasetConfig(path=flow).samples(store, Normalizer.of(store))
    config = EquationLabelsConfig.model_validate({"equation": {"kind": "kolmogorov"}})
    with pytest.raises(DataError, match=r"equation_labels\.equation\.viscosity=NUMBER"):
        config.build(dataset)
    config = EquationLabelsConfig.model_validate({"equation": {"kind": "kolmogorov", "viscosity": 2e-3}})
    labels = config.build(dataset)
    assert labels.constants == {"viscosity": 2e-3}
    batch = dataset.batch(np.arange(1))
    assert not torch.equal(labels.targets(batch, batch.inputs[:, :2]), batch.targets)


@pytest.mark.parametrize(
    ("ranges", "said"),
    [
        ({"rate": {"low": 1, "high": 2}}, "equation_labels.scalars.rate: .* takes viscosity, drag"),
        ({"viscosity": {"low": -1, "high": 2}}, "equation_labels.scalars.viscosity: .*positive, not -1"),
    ],
)
def test_scalars_are_drawn_where_the_equation_takes_them(
    flow: Path, ranges: dict[str, Any], said: str
) -> None:
    with pytest.raises(PelagosError, match=said):
        EquationLabelsConfig.model_validate({"equation": {"kind": "kolmogorov"}, "scalars": ranges}).build(
            DatasetConfig(path=flow).open()
        )


def test_a_scalar_that_the_network_is_not_told_is_not_drawn(flow: Path) -> None:
    store = open_store(flow)
    drag = store.scalar_values[:, [store.params.index("drag")]]
    store = replace(store, params=("drag",), scalar_values=drag)
    dataset = DatasetConfig(path=flow).samples(store, Normalizer.of(store))
    ranges = {"viscosity": {"low": 1e-3, "high": 2e-3}}
    config = EquationLabelsConfig.model_validate({"equation": {"kind": "kolmogorov"}, "scalars": ranges})
    with pytest.raises(PelagosError, match="has no such scalar"):
        config.build(dataset)
