"""What the tests of training share."""

from pathlib import Path

import pytest

from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.online.simulation import SimulateConfig, simulate
from pelagos.preprocessing.sources.formats import well_writer


@pytest.fixture(scope="session")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small store of flow under a force, two trajectories of five frames."""
    folder = tmp_path_factory.mktemp("flow")
    simulation = {
        "num_trajectories": 2,
        "shape": (16, 16),
        "num_frames": 5,
        "interval": 0.02,
        "dtype": "float64",
    }
    config = SimulateConfig.model_validate({"equation": {"kind": "kolmogorov"}, **simulation})
    well_writer.write(simulate(config), folder / "flow.hdf5")
    source = {"kind": "the_well", "paths": str(folder / "flow.hdf5")}
    splits = {"kind": "trajectories", "train": 2}
    return build(
        BuildConfig.model_validate(
            {"dataset": "flow", "source": source, "root": str(folder), "splits": splits}
        )
    )
