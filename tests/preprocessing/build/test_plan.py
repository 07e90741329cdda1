from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analytic_source import configuration

from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.build.plan import make_plan
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.fields.field_reader import FieldReader
from pelagos.preprocessing.store.manifest import read_manifest

# Trajectories 3, 4 and 5 begin as 0, 1 and 2, with other viscosities.
AGAIN = {"repeats": 3, "scalars": True, "names": ["velocity_x", "velocity_y", "density"]}
TOGETHER = {"kind": "trajectories", "valid": 2, "test": 2, "group_by": ["initial_condition"]}


@pytest.mark.parametrize("by", [["initial_condition"], ["initial_condition", "viscosity"]])
@pytest.mark.parametrize(
    "source", [{"scalars": True}, {"scalars": True, "size": 1}], ids=["plain", "uniform"]
)
def test_initial_conditions_that_differ_or_are_uniform_change_no_split(
    tmp_path: Path, source: dict[str, Any], by: list[str]
) -> None:
    plain = configuration(tmp_path, source)
    grouped = configuration(tmp_path, source, splits=plain.splits.model_dump() | {"group_by": by})
    assert np.array_equal(make_plan(plain).codes, make_plan(grouped).codes)


def test_a_scalar_of_that_name_is_meant_where_there_is_one(tmp_path: Path) -> None:
    options = {"splits": TOGETHER, "rename": {"viscosity": "initial_condition"}}
    plan = make_plan(configuration(tmp_path, AGAIN, **options))
    assert plan.codes[:, 0].tolist() == [0, 0, 1, 1, 2, 2]
    assert plan.initial_digests == ()


def test_ranges_that_tear_initial_conditions_apart_are_refused(tmp_path: Path) -> None:
    splits = {"kind": "trajectories", "test": (4, 6), "group_by": ["initial_condition"]}
    with pytest.raises(
        ConfigError, match=r"trajectories \[1, 4\] agree in initial_condition but are in different"
    ):
        build(configuration(tmp_path, AGAIN, splits=splits))


def test_a_store_from_before_an_option_existed_stays_what_it_was(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    path = build(config)
    fingerprint = read_manifest(path).fingerprint
    old = {name: value for name, value in config.content().items() if name not in ("regrid", "attributes")}
    assert config.makes(old)
    assert not configuration(tmp_path, regrid={"shape": [4, 4]}).makes(old)
    assert not config.makes(old | {"unheard_of": 1})
    assert make_plan(config).fingerprint == fingerprint
    assert "regrid" not in config.identity()


def test_the_fingerprint_depends_on_what_is_stored_and_not_on_how(tmp_path: Path) -> None:
    plan = make_plan(configuration(tmp_path))
    same = make_plan(configuration(tmp_path / "elsewhere", workers=2, part="1/2"))
    assert same.fingerprint == plan.fingerprint
    for options in (
        {"coarsen": 2},
        {"variables": ["velocity_y"]},
        {"shard_bytes": 1024},
        {"codec": "blosc-lz4"},
    ):
        assert make_plan(configuration(tmp_path, **options)).fingerprint != plan.fingerprint


def test_static_fields_are_written_once_by_the_part_that_starts_a_trajectory(tmp_path: Path) -> None:
    def cells(static: str) -> list[tuple[int, ...] | None]:
        # A block of two of five frames a shard.
        plan = make_plan(configuration(tmp_path, {"static": static, "trajectories": 2}, shard_bytes=1024))
        assert [part.name for part in plan.parts] == ["0.0", "0.1", "0.2", "1.0", "1.1", "1.2"]
        return [plan.static_cell(part) for part in plan.parts]

    assert cells("none") == [None] * 6
    assert cells("common") == [(0, 0, 0, 0), None, None, None, None, None]
    assert cells("varying") == [(0, 0, 0, 0), None, None, (1, 0, 0, 0), None, None]


def test_planning_reads_no_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: FieldReader, trajectories: slice, times: slice) -> None:
        raise AssertionError("a field was read")

    monkeypatch.setattr(FieldReader, "read", fail)
    plan = make_plan(configuration(tmp_path))
    assert plan.training.sum() == 4 * 5
    assert all(plan.present(part).all() for part in plan.parts)
