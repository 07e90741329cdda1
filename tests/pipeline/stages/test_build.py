"""The stage builds what its configuration says, and what it returns is the store."""

from pathlib import Path

import pytest

from pelagos.pipeline.stages.build import BuildStage, run
from pelagos.preprocessing.online.simulation import SimulateConfig, simulate
from pelagos.preprocessing.sources.formats import well_writer
from pelagos.preprocessing.store.store import open_store


def test_a_store_is_built_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = {"num_trajectories": 2, "shape": (8, 8), "num_frames": 3, "interval": 0.02}
    config = SimulateConfig.model_validate({"equation": {"kind": "wave"}, **size})
    well_writer.write(simulate(config), tmp_path / "waves.hdf5")
    values = {
        "dataset": "waves",
        "source": {"kind": "the_well", "paths": str(tmp_path / "waves.hdf5")},
        "root": str(tmp_path),
    }
    path = run(BuildStage.model_validate(values))
    assert open_store(path).num_trajectories == 2
    assert capsys.readouterr().out == f"store: {path}\n"
