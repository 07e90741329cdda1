"""A list of files keeps its order, splits go by file, and which split each file feeds is said."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pelagos.preprocessing.assumptions import Assumption
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.build.plan import make_plan
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.inspection.inspect_path import inspect
from pelagos.preprocessing.inspection.proposal import propose
from pelagos.preprocessing.store.store import Store, open_store


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Official files of which the one for tests comes first by its name; each holds its number."""
    paths = []
    for number, (name, count) in enumerate((("flow_train", 5), ("flow_valid", 2), ("a_flow_test", 3))):
        paths.append(str(tmp_path / f"{name}.hdf5"))
        with h5py.File(paths[-1], "w") as file:
            file["tensor"] = number + np.random.default_rng(number).uniform(0, 0.5, (count, 4, 8)).astype(
                "f4"
            )
            file["x-coordinate"], file["t-coordinate"] = np.arange(8.0), np.arange(4.0)
    return paths


def config(root: Path, paths: Any, **splits: Any) -> BuildConfig:
    source = {"kind": "pdebench", "paths": paths}
    return BuildConfig.model_validate({"dataset": "a", "root": root, "source": source, "splits": splits})


def fed_by(store: Store) -> dict[str, set[int]]:
    """The numbers of the files from which each split's frames are."""
    numbers = np.array([int(store.read(i, 0, 1).min()) for i in range(store.num_trajectories)])
    return {name: set(numbers[frames.any(axis=1)].tolist()) for name, frames in store.splits.items()}


def assumed(config: BuildConfig) -> list[Assumption]:
    return [one for one in make_plan(config).assumptions if one.code == "file_order"]


def test_a_list_keeps_its_order_and_its_last_file_tests(files: list[str], tmp_path: Path) -> None:
    asked = config(tmp_path, files, kind="trajectories", valid=2, test=3)
    store = open_store(build(asked))
    assert fed_by(store) == {"train": {0}, "valid": {1}, "test": {2}}
    assert not assumed(asked)


def test_what_matches_a_pattern_is_sorted_and_told(files: list[str], tmp_path: Path) -> None:
    asked = config(tmp_path, f"{tmp_path}/*flow*.hdf5", kind="trajectories", test=2)
    assert fed_by(open_store(build(asked))) == {"train": {0, 2}, "valid": set(), "test": {1}}
    (one,) = assumed(asked)
    assert "a_flow_test.hdf5 feeds train (12 frames); " in one.text
    assert "flow_valid.hdf5 feeds test (8 frames)" in one.text


def test_splits_go_by_file(files: list[str], tmp_path: Path) -> None:
    asked = config(
        tmp_path, f"{tmp_path}/*.hdf5", kind="files", valid="*_valid.hdf5", test=["a_flow_test.hdf5"]
    )
    path = build(asked)
    assert fed_by(open_store(path)) == {"train": {0}, "valid": {1}, "test": {2}}
    assert not assumed(asked)
    for line in ("flow_train.hdf5 feeds train (20 frames)", "a_flow_test.hdf5 feeds test (12 frames)"):
        assert line in inspect(path)


def test_files_that_no_split_names_can_be_left_out(files: list[str], tmp_path: Path) -> None:
    asked = config(tmp_path, files, kind="files", train=files[0], test="flow_valid*")
    path = build(asked)
    assert open_store(path).splits["train"].sum() == 20
    assert "a_flow_test.hdf5 feeds nothing" in inspect(path)


def test_what_is_proposed_says_which_split_each_file_feeds(files: list[str], tmp_path: Path) -> None:
    text = propose(f"{tmp_path}/*.hdf5")
    assert "a_flow_test.hdf5 feeds train (12 frames)" in text
    assert "flow_valid.hdf5 feeds valid (4 frames), test (4 frames)" in text


def test_a_subset_takes_its_files_with_it(files: list[str], tmp_path: Path) -> None:
    asked = config(tmp_path, files, kind="files", test="a_flow_test.hdf5")
    asked = asked.model_copy(update={"subset": asked.subset.model_copy(update={"trajectories": (4, 9)})})
    assert make_plan(asked).feeds[files[2]] == {"test": 8}


def test_trajectories_of_a_file_can_stay_together(files: list[str], tmp_path: Path) -> None:
    asked = config(tmp_path, files, kind="trajectories", test=4, group_by=["file"])
    assert fed_by(open_store(build(asked))) == {"train": {0, 1}, "valid": set(), "test": {2}}


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (
            {"test": "*_tset.hdf5"},
            r"splits\.test: no file fits '\*_tset\.hdf5'; there are .*flow_train\.hdf5",
        ),
        ({"valid": "*_valid*", "test": "flow_*"}, "flow_valid.hdf5 is in valid and in test"),
    ],
)
def test_patterns_that_fit_no_file_or_one_twice_are_refused(
    files: list[str], tmp_path: Path, splits: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_plan(config(tmp_path, files, kind="files", **splits))
