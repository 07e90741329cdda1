"""Run concerns: what works and is probably not meant is said, and nothing of what is meant."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from pelagos.pipeline.cli import app
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.online.simulation import SimulateConfig, simulate
from pelagos.preprocessing.sources.formats import well_writer

Check = Callable[..., list[str]]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One file of six trajectories in three stores: with all splits, with none but training, and with labels."""
    folder = tmp_path_factory.mktemp("concerns")
    size = {"num_trajectories": 6, "shape": (8, 8), "num_frames": 6, "interval": 0.02}
    ds = simulate(SimulateConfig.model_validate({"equation": {"kind": "wave"}, **size}))
    labels = {"random_seed": [5.0, 9.0, 2.0, 40.0, 11.0, 3.0], "order": np.arange(6.0), "speed": np.ones(6)}
    labelled = ds.assign(
        {
            name: ("trajectory", np.asarray(values), {"role": "scalar", "units": "1"})
            for name, values in labels.items()
        }
    )
    splits = {"whole": {"valid": 1, "test": 1}, "bare": {}, "labelled": {"valid": 1, "test": 1}}
    built = {}
    for name, counts in splits.items():
        well_writer.write(labelled if name == "labelled" else ds, folder / f"{name}.hdf5")
        values = {
            "dataset": name,
            "source": {"kind": "the_well", "paths": str(folder / f"{name}.hdf5")},
            "root": str(folder / "stores"),
            "splits": {"kind": "trajectories", **counts},
        }
        built[name] = str(build(BuildConfig.model_validate(values)))
    return built


@pytest.fixture
def warnings_of(tmp_path: Path, stores: dict[str, str]) -> Check:
    """What `check` warns of in a run on a store."""

    def checked(store: str, **loop: Any) -> list[str]:
        sampling = {"kind": "pairs", "max_lead": loop.pop("max_lead", 5)}
        values = {
            "command": "pretrain",
            "output": str(tmp_path / "run"),
            "network": {"kind": "unet", "dims": [4, 8]},
            "data": [{"path": stores[store], "sampling": sampling}],
            "loop": {"steps": 4, "batch_size": 8, "micro_batch": 2, **loop},
        }
        (tmp_path / "train.yaml").write_text(yaml.safe_dump(values))
        result = CliRunner().invoke(app, ["check", str(tmp_path / "train.yaml"), "--json"])
        assert result.exit_code == 0, result.output
        return list(json.loads(result.stdout)["warnings"])

    return checked


def test_a_run_as_it_should_be_has_no_warning(warnings_of: Check) -> None:
    assert warnings_of("whole", validate_every=2) == []


def test_absent_splits_and_what_they_cost_are_told(warnings_of: Check) -> None:
    [told] = warnings_of("bare")
    assert "bare-1.zarr has no valid and no test split: nothing tells overfitting, and evaluate finds" in told


def test_validations_without_anything_to_validate_on_are_told(warnings_of: Check) -> None:
    told = warnings_of("bare", validate_every=2, validation_rollout=2)
    for key in ("validate_every", "validation_rollout"):
        assert any(
            f"loop.{key}: 2 asks for validations, and no store has a valid split" in one for one in told
        )


def test_a_batch_larger_than_the_data_is_told(warnings_of: Check) -> None:
    # Four trajectories of six frames have sixty pairs.
    assert warnings_of("whole", batch_size=60) == []
    assert "loop.batch_size: 62 is more than the 60 samples" in warnings_of("whole", batch_size=62)[0]


def test_lead_times_that_no_trajectory_has_are_told(warnings_of: Check) -> None:
    [told] = warnings_of("whole", max_lead=6)
    assert "max_lead: 6 frames, and trajectories of" in told
    assert "have pairs of at most 5 in split train" in told


def test_scalars_that_number_the_trajectories_are_told_and_parameters_are_not(warnings_of: Check) -> None:
    told = warnings_of("labelled")
    why = {one.split()[2]: one for one in told}
    assert set(why) == {"order", "random_seed"}
    assert "a label rather than a parameter since it counts" in why["order"]
    assert "a label rather than a parameter by its name" in why["random_seed"]
