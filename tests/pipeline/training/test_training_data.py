"""The data of a run: what is opened, under which names, and what the model remembers of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pelagos.models.losses import LossConfig
from pelagos.pipeline.stages.pretrain import PretrainStage
from pelagos.pipeline.training.training_data import build_mixture, domain_of, domains_of, open_stores
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.samples.normalize import Normalizer

SIMULATION = {"equation": {"kind": "wave"}, "shape": [8, 8], "num_frames": 6, "interval": 0.02}
SIMULATED = {"kind": "online", "reservoir": 4, "valid": 1, "statistics": 1, "producers": 1}


def config(waves: Path, *more: dict[str, Any], **values: Any) -> PretrainStage:
    return PretrainStage.model_validate(
        {
            "output": "run",
            "network": {"kind": "unet"},
            "data": [{"path": waves}, *more],
            "loop": {"steps": 4, "batch_size": 4, "micro_batch": 2},
            **values,
        }
    )


def test_samples_are_scaled_by_the_stores_own_statistics_or_by_given_ones(waves: Path) -> None:
    run = config(waves)
    stores = open_stores(run)
    own = Normalizer.of(stores[0])
    assert np.array_equal(
        build_mixture(run, stores, [own]).datasets[0].input_normalizer.mean[:2], own.mean[:2]
    )
    shifted = Normalizer(own.keys, own.mean + 1, own.std)
    [dataset] = build_mixture(run, stores, [shifted]).datasets
    assert np.array_equal(dataset.input_normalizer.mean[:2], own.mean[:2] + 1)


def test_a_domain_remembers_variables_scales_and_the_unit_of_lead_time(waves: Path) -> None:
    run = config(waves)
    stores = open_stores(run)
    [dataset] = build_mixture(run, stores, [Normalizer.of(one) for one in stores]).datasets
    domain = domain_of(dataset)
    assert [variable.key for variable in domain.inputs] == ["displacement", "displacement_rate", "wave_speed"]
    assert [variable.key for variable in domain.outputs] == ["displacement", "displacement_rate"]
    own = dict(zip(dataset.input_normalizer.keys, dataset.input_normalizer.std.tolist(), strict=True))
    assert {key: scale.std for key, scale in domain.scales.items()} == own
    assert domain.time_scale == pytest.approx(0.02)


def test_a_simulation_with_the_name_of_another_dataset_is_refused(waves: Path) -> None:
    named = {**SIMULATED, "simulation": {**SIMULATION, "dataset": "waves"}}
    with pytest.raises(ConfigError, match="two datasets are called waves: give the simulation another name"):
        open_stores(config(waves, named))


def test_a_batch_that_cannot_be_dealt_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    run = config(tmp_path / "no.zarr", loop={"steps": 4, "batch_size": 5, "micro_batch": 2})
    with pytest.raises(DataError, match="cannot be dealt"):
        open_stores(run)


def trained(waves: Path, sampling: dict[str, Any], steps: int = 100) -> tuple[float, float, float]:
    """The shortest and longest lead time and the horizon of a run, in frames."""
    run = config(waves, data=[{"path": waves, "sampling": sampling}])
    stores = open_stores(run)
    [dataset] = build_mixture(run, stores, [Normalizer.of(one) for one in stores]).datasets
    domain = domains_of([dataset], steps, LossConfig())["waves"]
    assert domain.time_units == dataset.store.time_units
    assert domain.grid is not None
    assert (domain.grid.y.points, domain.grid.x.points) == (8, 8)
    dt = dataset.store.dt
    return domain.min_lead / dt, domain.max_lead / dt, domain.horizon / dt


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        ({"kind": "pairs"}, (1, 5, 5)),
        ({"kind": "pairs", "max_lead": 2}, (1, 2, 2)),
        ({"kind": "pairs", "stride": 2, "identity": True}, (0, 4, 4)),
        ({"kind": "windows", "steps": 3}, (1, 3, 3)),
        ({"kind": "rollouts", "steps": 2, "lead": 2}, (2, 2, 4)),
        ({"kind": "rollouts", "steps": 4, "curriculum": [[0, 1], [50, 2], [200, 4]]}, (1, 1, 2)),
    ],
)
def test_a_domain_remembers_the_lead_times_of_training(
    waves: Path, sampling: dict[str, Any], expected: tuple[float, float, float]
) -> None:
    assert trained(waves, sampling) == pytest.approx(expected)
