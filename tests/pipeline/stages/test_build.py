"""The stage builds what its configuration says, and what it returns is the store."""

from pathlib import Path
from typing import Any

import pytest
import xarray as xr
import yaml
from typer.testing import CliRunner

from pelagos.pipeline.cli import app
from pelagos.pipeline.stages.build import BuildStage, run
from pelagos.preprocessing.online.simulation import SimulateConfig, simulate
from pelagos.preprocessing.sources.formats import well_writer
from pelagos.preprocessing.store.store import open_store


def waves(folder: Path, constant: str = "") -> dict[str, Any]:
    """The build of simulated waves, one field of which may be made constant."""
    size = {"num_trajectories": 2, "shape": (8, 8), "num_frames": 3, "interval": 0.02}
    ds = simulate(SimulateConfig.model_validate({"equation": {"kind": "wave"}, **size}))
    if constant:
        ds[constant] = xr.ones_like(ds[constant])
    well_writer.write(ds, folder / "waves.hdf5")
    return {
        "command": "build",
        "dataset": "waves",
        "source": {"kind": "the_well", "paths": str(folder / "waves.hdf5")},
        "root": str(folder),
    }


def test_a_store_is_built_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run(BuildStage.model_validate(waves(tmp_path)))
    assert open_store(path).num_trajectories == 2
    assert capsys.readouterr().out == f"store: {path}\n"


def test_a_build_ends_with_what_it_assumed_and_strict_refuses_it(tmp_path: Path) -> None:
    (tmp_path / "build.yaml").write_text(yaml.safe_dump(waves(tmp_path, constant="displacement")))
    refused = CliRunner().invoke(app, ["build", str(tmp_path / "build.yaml"), "--strict"])
    assert refused.exit_code == 2
    assert "strict: nothing may be assumed" in refused.output
    built = CliRunner().invoke(app, ["build", str(tmp_path / "build.yaml")])
    assert built.exit_code == 0
    line = "constant (displacement): waves, all frames that train: 1 everywhere, and is left out of relative losses"
    assert line in built.output
    accepted = CliRunner().invoke(
        app, ["build", str(tmp_path / "build.yaml"), "accept=[constant]", "--strict"]
    )
    assert accepted.exit_code == 0
