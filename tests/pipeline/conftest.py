"""Lets the tests of this package, and the processes that they start, import what they share."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.online.simulation import SimulateConfig, simulate
from pelagos.preprocessing.sources.formats import well_writer

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    """A run that is stopped leaves signals ignored in its process, which is pytest's where a test runs it here."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def waves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small store of travelling waves, to be read only: six trajectories to train on and two held out."""
    folder = tmp_path_factory.mktemp("waves")
    simulation = {"num_trajectories": 8, "shape": (8, 8), "num_frames": 6, "interval": 0.02}
    config = SimulateConfig.model_validate({"equation": {"kind": "wave"}, **simulation})
    well_writer.write(simulate(config), folder / "waves.hdf5")
    values = {
        "dataset": "waves",
        "source": {"kind": "the_well", "paths": str(folder / "waves.hdf5")},
        "root": str(folder),
        "splits": {"kind": "trajectories", "valid": 2},
    }
    return build(BuildConfig.model_validate(values))
