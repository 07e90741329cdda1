"""Block writers: what no archive can hold is refused before anything is written; `WriterContract` holds the rest."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.sources.writer import BlockWriter, single_value, write_all
from tests.preprocessing.sources.datasets import dataset


class Recorder(BlockWriter):
    """Writes nothing but how many trajectories came when."""

    def _open(self, path: Path) -> Any:
        return path.open("w")

    def _create(self) -> None:
        if "forbidden" in self.template:
            raise DataError(f"{self.path}: forbidden")

    def _put(self, start: int, block: xr.Dataset) -> None:
        self._file.write(f"{start}+{block.sizes['trajectory']};")


def test_a_whole_dataset_is_written_one_trajectory_at_a_time(tmp_path: Path) -> None:
    write_all(Recorder, dataset(("u",)), tmp_path / "new/a.txt")
    assert (tmp_path / "new/a.txt").read_text() == "0+1;1+1;2+1;"


@pytest.mark.parametrize(
    ("ds", "message"),
    [
        (dataset(("u",)).expand_dims(level=[1.0], axis=2), "has no levels; select one first"),
        (
            dataset(("u",)).assign_coords(present=(("trajectory", "time"), np.arange(15).reshape(3, 5) > 0)),
            "all trajectories of a file are equally long; write a file for each length",
        ),
        (dataset(("forbidden",)), "forbidden"),
    ],
)
def test_what_cannot_be_written_is_refused_and_leaves_nothing(
    tmp_path: Path, ds: xr.Dataset, message: str
) -> None:
    with pytest.raises(DataError, match=f"a.txt: .*{message}"):
        Recorder(tmp_path / "a.txt", ds, 3)
    assert list(tmp_path.iterdir()) == []


def test_a_scalar_of_the_file_is_the_same_for_all_trajectories() -> None:
    assert single_value(dataset(("u",), scalars={"rate": [2.0] * 3}), "rate", Path("a")) == 2
    with pytest.raises(DataError, match=r"a: rate must be the same throughout a file, but is \[1\.0, 2\.0\]"):
        single_value(dataset(("u",), scalars={"rate": [1, 2, 2]}), "rate", Path("a"))
