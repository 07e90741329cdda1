import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analytic_source import Analytic, configuration
from archive_source import empty_archive, large

from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.build.duplicate_starts import (
    duplicate_warning,
    initial_digests,
    read_initial_digests,
)
from pelagos.preprocessing.build.plan import make_plan
from pelagos.preprocessing.build.repair import repair
from pelagos.preprocessing.safety.trust import trusting
from pelagos.preprocessing.store.manifest import verify
from pelagos.preprocessing.store.store import open_store

# Trajectories 3, 4 and 5 begin as 0, 1 and 2, with other viscosities.
AGAIN = {"repeats": 3, "scalars": True, "names": ["velocity_x", "velocity_y", "density"]}
TOGETHER = {"kind": "trajectories", "valid": 2, "test": 2, "group_by": ["initial_condition"]}


def names_of_splits(path: Path) -> list[str]:
    splits = open_store(path).splits
    return [next(name for name in splits if splits[name][n].all()) for n in range(len(splits["train"]))]


@pytest.mark.parametrize("options", [{}, {"shard_bytes": 1024}, {"workers": 2}])
def test_trajectories_that_begin_alike_in_different_splits_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    again = {"repeats": 3}  # trajectories 3, 4 and 5 begin as 0, 1 and 2; 4 validates and 5 tests
    build(configuration(tmp_path, again, **options))
    assert (
        "trajectory 1 (train) and trajectory 4 (valid) begin with the same fields, and so do 1 more"
        in caplog.text
    )
    caplog.clear()
    together = {"train": [0, 2], "valid": [2, 3], "kind": "trajectories"}
    build(configuration(tmp_path, again, version="2", splits=together, **options))
    build(configuration(tmp_path, version="3", **options))
    assert "begin with the same fields" not in caplog.text


@pytest.mark.parametrize(
    "options", [{}, {"shard_bytes": 1024}, {"bits": {"velocity_x": 9}}, {"missing": "keep"}]
)
def test_equal_initial_conditions_stay_in_one_split(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    values = Analytic.values

    def changed(self: Analytic, name: str) -> Any:
        """What is only predicted differs from the first frame on."""
        return values(self, name) + (np.arange(6)[:, None, None, None] if name == "density" else 0)

    monkeypatch.setattr(Analytic, "values", changed)
    source = AGAIN | {"sea": 2 * ("missing" in options)}
    path = build(configuration(tmp_path, source, splits=TOGETHER, **options))
    assert names_of_splits(path) == ["train", "valid", "test"] * 2
    assert "begin with the same fields" not in caplog.text
    apart = {"kind": "trajectories", "valid": 2, "test": 2}
    build(configuration(tmp_path, source, version="2", splits=apart, **options))
    assert "begin with the same fields" in caplog.text
    (path / "split/c/0/0").unlink()
    with trusting(["analytic_source:Analytic"]):
        mended = repair(path)
    assert mended == ["split/c/0/0"]
    assert verify(path, sha256=True) == []


def test_fields_that_are_uniform_where_they_exist_begin_like_no_others(tmp_path: Path) -> None:
    fields = make_plan(configuration(tmp_path, missing="keep")).fields
    rest = np.zeros((3, 1, 2, 4, 5), np.float32)
    rest[:, :, 1] = 2
    rest[..., 1:3, 2] = np.nan
    moving = rest.copy()
    moving[:, :, 1, 0, 0] = 1
    assert initial_digests(rest, fields.state) == initial_digests(rest * np.nan, fields.state) == [""] * 3
    first, *others = initial_digests(moving, fields.state)
    assert first
    assert others == [first] * 2


def test_initial_conditions_are_read_in_little_memory(tmp_path: Path) -> None:
    peaks = []
    for trajectories in (100, 1000):
        path = empty_archive(tmp_path / f"2D_CFD_{trajectories}_periodic.hdf5", trajectories)
        fields = make_plan(large(path)).fields
        tracemalloc.start()
        assert read_initial_digests(fields) == [""] * trajectories
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0] < 32 << 20


def test_only_trajectories_of_different_splits_are_warned_of() -> None:
    train, valid, test, unused = 0, 1, 2, -1
    codes = np.repeat(np.array([train, train, valid, test, unused], np.int8)[:, None], 3, axis=1)
    assert duplicate_warning(["a", "a", "b", "c", "b"], codes) == ""
    assert duplicate_warning(["", "a", "", "", ""], codes) == "", "uniform starts are like no others"
    text = duplicate_warning(["a", "b", "a", "b", "c"], codes)
    assert text.startswith(
        "trajectory 0 (train) and trajectory 2 (valid) begin with the same fields, and so do 1"
    )
    assert "splits.group_by=[initial_condition]" in text


def test_a_digest_is_of_prognostic_fields_of_the_first_frame(tmp_path: Path) -> None:
    names = {"names": ["velocity_x", "density"]}
    fields = make_plan(configuration(tmp_path, names)).fields
    assert [channel.variable.role for channel in fields.state] == ["prognostic", "diagnostic"]
    x_NTCHW = np.random.default_rng(0).normal(size=(1, 3, 2, 4, 4)).astype(np.float32)
    digest = initial_digests(x_NTCHW, fields.state)
    for place, same in (((0, 1, 0), True), ((0, 0, 1), True), ((0, 0, 0), False)):
        changed = x_NTCHW.copy()
        changed[place] += 1
        assert (initial_digests(changed, fields.state) == digest) is same
