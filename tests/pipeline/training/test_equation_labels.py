"""Labels by the equation: those of stored states are the stored frames, however samples are made or transformed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pelagos.models.layers.fourier_resample import fourier_resample
from pelagos.pipeline.training.equation_labels import EquationLabels, EquationLabelsConfig
from pelagos.preprocessing.errors import ConfigError, DataError, PelagosError
from pelagos.preprocessing.grid import Grid, Sides
from pelagos.preprocessing.physics.spectral import truncate
from pelagos.preprocessing.samples.augment_config import AugmentConfig
from pelagos.preprocessing.samples.dataset import Dataset, DatasetConfig
from pelagos.preprocessing.samples.normalize import Normalizer
from pelagos.preprocessing.store.sample_store import SampleStore
from pelagos.preprocessing.store.store import open_store
from pelagos.preprocessing.variables import known_variable
from tests.preprocessing.memory_store import memory_store


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


def dataset_without(flow: Path, trajectory: int, **data: Any) -> Dataset:
    """Samples of the flow, of which one trajectory has no viscosity."""
    store = open_store(flow)
    values = store.scalar_values.copy()
    values[trajectory, store.params.index("viscosity")] = np.nan
    store = replace(store, scalar_values=values)
    config = DatasetConfig.model_validate({"path": flow, "augment": {"auto": False}, **data})
    return config.samples(store, Normalizer.of(store))


def with_viscosity(value: Any = 0.5, **values: Any) -> EquationLabelsConfig:
    return EquationLabelsConfig.model_validate(
        {"equation": {"kind": "kolmogorov", "viscosity": value}, **values}
    )


def test_a_number_of_the_equation_stands_in_for_missing_values_alone(flow: Path) -> None:
    made = with_viscosity().build(dataset_without(flow, 1))
    batch = made.dataset.batch(np.arange(made.dataset.num_samples))
    found, lacking = made.targets(batch, batch.inputs[:, :2]), batch.index[:, 0] == 1
    torch.testing.assert_close(found[~lacking], batch.targets[~lacking], rtol=0, atol=2e-5)
    assert (found - batch.targets)[lacking].abs().max() > 0.1
    stands_in, unused = made.remarks
    assert stands_in == (
        "viscosity is taken to be 0.5, as the equation says, for the 1 of 2 trajectories without a value"
    )
    assert unused.startswith("equation_labels.equation.viscosity, 0.5, is not used where ")


def test_labels_are_made_with_the_drawn_value_that_the_network_is_told(flow: Path) -> None:
    ranges = {"viscosity": {"low": 1e-3, "high": 4e-3}}
    # What is drawn for all needs no number to stand in.
    config = EquationLabelsConfig.model_validate({"equation": {"kind": "kolmogorov"}, "scalars": ranges})
    made = config.build(dataset_without(flow, 1))
    batch = made.dataset.batch(np.arange(made.dataset.num_samples))
    drawn = replace(batch, scalars=made.drawn_scalars(batch))
    known = EquationLabelsConfig.model_validate({"equation": {"kind": "kolmogorov"}}).build(
        DatasetConfig(path=flow).open()
    )
    wanted = known.targets(drawn, batch.inputs[:, :2])
    assert torch.equal(made.targets(drawn, batch.inputs[:, :2]), wanted)
    stated = with_viscosity(scalars=ranges).build(dataset_without(flow, 1))
    assert torch.equal(stated.targets(drawn, batch.inputs[:, :2]), wanted)
    assert list(stated.remarks) == [
        "equation_labels.equation.viscosity, 0.5, is not used: equation_labels.scalars.viscosity draws new values"
    ]


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        (0.5, "viscosity, 0.5, is not used where"),
        ({"low": 1.0, "high": 2.0}, "viscosity, 1 to 2, is not used"),
    ],
)
def test_a_number_that_contradicts_the_stores_values_is_not_dropped_without_a_word(
    flow: Path, stated: Any, said: str
) -> None:
    dataset = DatasetConfig(path=flow).open()
    [remark] = with_viscosity(stated).build(dataset).remarks
    assert said in remark
    values = _viscosities(flow)
    assert f"{values.min():g} to {values.max():g}" in remark
    agreeing = {"low": values.min(), "high": values.max()}
    assert not list(with_viscosity(agreeing).build(dataset).remarks)


def _viscosities(flow: Path) -> np.ndarray[Any, Any]:
    store = open_store(flow)
    return store.scalar_values[:, store.params.index("viscosity")]


def test_scalings_of_a_scalar_that_some_trajectory_lacks_are_refused(flow: Path) -> None:
    dataset = dataset_without(flow, 1, augment={"equation": "kolmogorov", "scale": 1.5})
    with pytest.raises(PelagosError, match=r"data\.augment\.scale changes viscosity, of which trajectories"):
        with_viscosity().build(dataset)


def augmented(kind: str, store: SampleStore, augment: dict[str, Any], **equation: Any) -> tuple[str, ...]:
    """The names of the transformations of samples of a store whose equation labels state."""
    config = EquationLabelsConfig.model_validate({"equation": {"kind": kind, **equation}})
    return config.augment(AugmentConfig(**augment), store).build(store).names


def in_a_box(*names: str, **facts: Any) -> SampleStore:
    """Fields on a periodic square."""
    sides: Sides = ("periodic", "periodic")
    axis = np.arange(8) / 8
    state = np.random.default_rng(0).normal(size=(2, 3, len(names), 8, 8))
    variables = tuple(known_variable(name) for name in names)
    return memory_store(state, variables, Grid("cartesian", axis, axis, sides, sides), **facts)


def test_samples_take_the_symmetries_of_the_equation_that_labels_them() -> None:
    store = in_a_box("elevation", scalars=(("dispersion",), np.ones((2, 1))))
    kept = ("rolls along y", "rolls along x", "reversals of y")
    assert augmented("korteweg_de_vries", store, {}) == kept
    assert augmented("korteweg_de_vries", store, {"auto": False}) == ()
    with pytest.raises(ConfigError, match="the equation tells its axes apart"):
        augmented("korteweg_de_vries", store, {"turn": True})
    assert augmented("korteweg_de_vries", store, {"scale": 2.0}) == (*kept, "scalings of time")
    # On by default where augment states the equation, and asked for here.
    phase = in_a_box("phase")
    assert augmented("allen_cahn", phase, {}) == AugmentConfig().build(phase).names
    assert augmented("allen_cahn", phase, {"negate": True})[-1] == "negations of phase"
    assert augmented("allen_cahn", in_a_box("phase", archive="apebench"), {}) == ()


@pytest.mark.parametrize(
    ("kind", "stated"),
    [
        ("navier_stokes", "kolmogorov"),
        ("navier_stokes", {"kind": "euler"}),
        ("navier_stokes", {"kind": "navier_stokes", "tracer": True}),
    ],
)
def test_another_equation_of_samples_than_of_labels_is_refused(kind: str, stated: Any) -> None:
    store = in_a_box("velocity_x", "velocity_y")
    with pytest.raises(
        ConfigError, match=r"data\.augment\.equation .* is another than equation_labels\.equation"
    ):
        augmented(kind, store, {"equation": stated})
    same = {"equation": {"kind": kind, "viscosity": 1e-3}}
    assert augmented(kind, store, same) == augmented(kind, store, {"equation": kind})
