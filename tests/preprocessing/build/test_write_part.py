from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from analytic_source import configuration, contents

from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.build.group_writer import write_skeleton
from pelagos.preprocessing.build.plan import Plan, make_plan
from pelagos.preprocessing.build.write_part import PROGRESS, is_written, read_record, shard_files, write_part
from pelagos.preprocessing.errors import DataError


def started(root: Path, **options: Any) -> tuple[Plan, Path]:
    """A plan and the folder in which its store can grow."""
    plan = make_plan(configuration(root, {"static": "varying"}, **options))
    folder = root / "growing"
    write_skeleton(folder, plan)
    (folder / PROGRESS).mkdir(parents=True)
    return plan, folder


def test_missing_values_are_errors_that_name_the_place(tmp_path: Path) -> None:
    source = {"missing": (3, 2), "path": str(tmp_path / "archive")}
    (tmp_path / "archive").write_bytes(bytes(6))
    with pytest.raises(
        DataError,
        match=r"archive: velocity_x, trajectory 3, time 2 \(1\.0\), y 0, x 1: .*missing \(NaN\); `missing: keep`",
    ):
        build(configuration(tmp_path, source))


def test_infinite_values_always_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"velocity_x, trajectory 2, time 1 .*the value is inf in float32"):
        build(configuration(tmp_path, {"infinite": (2, 1)}, missing="keep"))


def test_values_beyond_float32_are_errors(tmp_path: Path) -> None:
    convert = {"velocity_y": {"units": "nm s-1", "scale": 1e300}}
    with pytest.raises(DataError, match=r"velocity_y, trajectory 0, time 0 .* change the units"):
        build(configuration(tmp_path, {"dtype": "float64"}, convert=convert))


def test_values_without_a_logarithm_are_errors_even_where_missing_ones_are_kept(tmp_path: Path) -> None:
    options: dict[str, Any] = {"missing": "keep", "transforms": {"velocity_x": {"scale": 0.1}}}
    with pytest.raises(DataError, match=r"velocity_x, trajectory 3, .*the value is -inf .* its transform"):
        build(configuration(tmp_path, **options))


def test_writing_a_part_again_gives_the_same_record_and_bytes(tmp_path: Path) -> None:
    plan, root = started(tmp_path)
    for part in plan.parts:
        record = write_part(root, plan, part)
        before = contents(root)
        again = write_part(root, plan, part)
        assert contents(root) == before
        assert again.files == record.files
        read = read_record(root, plan, part)
        assert read is not None
        assert (read.files, read.initial_digests) == (record.files, record.initial_digests)
        assert read.measures.to_json() == record.measures.to_json()
        assert sorted(record.files) == sorted(shard_files(plan, part))


def test_a_part_is_written_only_if_record_and_files_are_there_and_whole(tmp_path: Path) -> None:
    plan, root = started(tmp_path)
    part = plan.parts[1]
    assert not is_written(root, plan, part)
    write_part(root, plan, part)
    assert is_written(root, plan, part)
    assert not is_written(root, replace(plan, fingerprint="other"), part)
    shard = root / shard_files(plan, part)[0]
    content = bytearray(shard.read_bytes())
    content[7] ^= 1
    shard.write_bytes(content)
    checking = replace(plan, config=plan.config.model_copy(update={"check_finished": True}))
    assert not is_written(root, checking, part)
    assert is_written(root, plan, part)  # of the right size: the rest is left to `verify`
    shard.write_bytes(content[:-1])
    assert not is_written(root, plan, part)


def test_only_parts_that_begin_trajectories_have_their_initial_conditions(tmp_path: Path) -> None:
    plan, root = started(tmp_path, shard_bytes=1024)
    records = [write_part(root, plan, part) for part in plan.parts]
    assert [len(record.initial_digests) for record in records] == [1, 0, 0] * 6
