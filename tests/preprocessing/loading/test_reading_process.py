"""Reading processes: the same batches as threads read, and errors that keep their class."""

from pathlib import Path

import numpy as np
import pytest
from analytic_source import configuration
from two_stores import mixture

from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.loading.loader import Loader
from pelagos.preprocessing.samples.dataset import DatasetConfig
from pelagos.preprocessing.samples.mixture import Sweep


@pytest.mark.parametrize(("kind", "largest"), [("pairs", 1 << 20), ("rollouts", 1 << 20), ("pairs", 200)])
def test_processes_fill_the_same_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, largest: int
) -> None:
    monkeypatch.setattr("pelagos.preprocessing.build.partition._CHUNK", largest)  # a channel takes 256 bytes
    source = {"names": ["velocity_x", "heating"], "static": "varying", "scalars": True, "sea": 1}
    path = build(configuration(tmp_path, source, codec="blosc-lz4", missing="keep"))
    sampling = {"kind": "rollouts", "steps": 2} if kind == "rollouts" else {"kind": "pairs"}
    dataset = DatasetConfig.model_validate({"path": path, "sampling": sampling}).open()
    found, expected = (
        [
            [
                getattr(batch, name).numpy().copy()
                for name in ("inputs", "targets", "mask", "forcings", "lead_time")
            ]
            for batch in Loader(mixture([dataset]), num_steps=2, processes=processes, depth=3)
        ]
        for processes in (True, False)
    )
    assert len(found) == len(expected) == 8
    for one, other in zip(found, expected, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_an_error_of_a_process_reaches_the_consumer(tmp_path: Path) -> None:
    path = build(configuration(tmp_path))
    (path / "state/c/0/0/0/0/0").unlink()
    loader = Loader(Sweep([DatasetConfig(path=path).open()], 5), threads=1, processes=True)
    with pytest.raises(DamagedFileError, match="state/c/0/0/0/0/0: the shard is missing"):
        next(iter(loader))


def test_processes_take_over_the_statistics_of_a_few_trajectories(tmp_path: Path) -> None:
    path = build(configuration(tmp_path))
    dataset = DatasetConfig(path=path, num_trajectories=2).open()
    assert dataset.store.stats.count[0] == 2 * 5 * 64
    # Counting them once more would read all frames of both trajectories; the batch is of the first alone.
    (path / "state/c/1/0/0/0/0").unlink()
    [batch] = Loader(Sweep([dataset], 5), num_steps=1, threads=1, processes=True)
    assert batch.index[:, 0].tolist() == [0] * 5
