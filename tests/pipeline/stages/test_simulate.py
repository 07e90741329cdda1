"""Archives of simulated trajectories: the same for any number of workers, and never overwritten unasked."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from pelagos.pipeline.stages.simulate import SimulateStage, run
from pelagos.preprocessing.errors import ConfigError


def stage(output: Path, **values: Any) -> SimulateStage:
    size = {"num_trajectories": 3, "batch": 2, "shape": [8, 8], "num_frames": 3, "interval": 0.02}
    simulation = {"equation": {"kind": "wave"}, **size}
    return SimulateStage.model_validate(
        {"simulation": simulation, "format": "the_well", "output": output, **values}
    )


def fields(file: Path) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    with h5py.File(file) as opened:
        opened.visititems(
            lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
        )
    return found


def test_workers_make_the_file_of_one_process(tmp_path: Path) -> None:
    torch.set_num_threads(2)  # on some processors the FFT then rounds otherwise than in a worker
    one, two = (fields(run(stage(tmp_path / f"{n}.hdf5", workers=n))) for n in (1, 2))
    assert one.keys() == two.keys()
    assert max(len(array) for array in one.values() if array.ndim == 4) == 3
    for name, array in one.items():
        np.testing.assert_array_equal(two[name], array)
    assert torch.get_num_threads() == 2


def test_an_existing_file_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    (tmp_path / "waves.hdf5").write_text("mine")
    with pytest.raises(ConfigError, match=r"exists: give another output=, or overwrite=true"):
        run(stage(tmp_path / "waves.hdf5"))
    assert (tmp_path / "waves.hdf5").read_text() == "mine"
    assert fields(run(stage(tmp_path / "waves.hdf5", overwrite=True)))


def test_only_what_is_there_can_be_left_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="drop: no variable 'viscosity'; there are "):
        run(stage(tmp_path / "waves.hdf5", drop=["viscosity"]))
