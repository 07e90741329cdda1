from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analytic_source import Analytic, configuration

from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.build.compare_stores import Comparison, compare

RICH = {"static": "varying", "scalars": True}


def store(tmp_path: Path, version: str, source: dict[str, Any] | None = None, **options: Any) -> Path:
    return build(configuration(tmp_path, RICH | (source or {}), version=version, **options))


@pytest.fixture
def poked(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Changes single values of what the source gives for `velocity_y`."""

    def poke(change: float, *places: tuple[int, ...]) -> None:
        original = Analytic.values

        def values(self: Analytic, name: str) -> Any:
            found = original(self, name)
            if name == "velocity_y":
                for place in places:
                    found[place] += change
            return found

        monkeypatch.setattr(Analytic, "values", values)

    return poke


def test_shards_and_codecs_make_no_difference(tmp_path: Path) -> None:
    one = store(tmp_path, "1", shard_bytes=1024)
    two = store(tmp_path, "2", shard_bytes=10**6, codec="blosc-lz4", title="the same")
    result = compare(one, two, tolerance=1e-12)  # moments are merged in another order
    assert result.same
    assert str(result) == f"the same content: {6 * 5 * 2 * 64 + 6 * 64} values are equal"


def test_a_single_value_is_found_with_its_place(tmp_path: Path, poked: Any) -> None:
    one = store(tmp_path, "1")
    poked(0.5, (5, 3, 2, 6))
    result = compare(one, store(tmp_path, "2"))
    assert not result.about, "the last trajectory is no training data"
    (difference,) = result.fields
    assert (difference.variable, difference.num_different, difference.num_compared) == (
        "velocity_y",
        1,
        6 * 5 * 64,
    )
    assert difference.largest == pytest.approx(0.5, rel=1e-6)
    assert difference.where == "trajectory 105, time 1.25, y 2, x 6"
    assert difference.frames == [("105", "1.25")]
    assert "velocity_y: 1 of 1920 values differ; by 0.5 at most" in str(result)
    assert compare(one, one.with_name("analytic-2.zarr"), tolerance=10).same


def test_training_data_that_differ_show_in_the_statistics(tmp_path: Path, poked: Any) -> None:
    one = store(tmp_path, "1")
    poked(50, *((0, t, 0, 0) for t in range(5)))
    result = compare(one, store(tmp_path, "2"))
    assert any(
        line.startswith("statistics: velocity_y: mean") and "; maximum " in line for line in result.about
    )
    assert "in 5 frames: trajectory 100, time 0.5; trajectory 100, time 0.75; " in str(result)
    assert "; and 2 more" in str(result)


def test_a_value_that_only_one_store_has_is_a_difference(tmp_path: Path, poked: Any) -> None:
    one = store(tmp_path, "1", missing="keep")
    poked(np.nan, (5, 0, 1, 1))
    result = compare(one, store(tmp_path, "2", missing="keep"), tolerance=100)
    assert "1 of 1920 values differ, 1 of them missing in one store only" in str(result)
    assert "at trajectory 105, time 0.5, y 1, x 1" in str(result)
    again = one.with_name("analytic-2.zarr")
    assert compare(again, again).same


def lines(result: Comparison) -> str:
    assert not result.same
    return str(result)


def test_what_only_one_store_has_is_named(tmp_path: Path) -> None:
    one = store(tmp_path, "1")
    shorter = store(tmp_path, "2", variables=["velocity_x"], subset={"trajectories": [1, None], "every": 2})
    result = compare(one, shorter, tolerance=10)
    assert not result.fields, "what both have is equal"
    text = lines(result)
    assert "variables: only the first store has depth, velocity_y" in text
    assert "trajectory: only the first store has 1: 100" in text
    assert "time: only the first store has 2: 0.75, 1.25" in text
    assert result.num_values == 5 * 3 * 64


def test_units_grids_splits_and_scalars_are_compared(tmp_path: Path) -> None:
    one = store(tmp_path, "1")
    convert = {"velocity_x": {"units": "cm s-1", "scale": 1}}
    splits = {"kind": "trajectories", "test": 1}
    text = lines(compare(one, store(tmp_path, "2", convert=convert, splits=splits)))
    assert "variables: velocity_x is m s-1 in the first store, cm s-1 in the second" in text
    assert "split: 5 frames are valid in the first store, train in the second" in text
    text = lines(compare(one, store(tmp_path, "3", {"scalars": False}, coarsen=2)))
    assert "grid: 8 and 4 points along y" in text
    assert "scalars: viscosity and none" in text
    assert "on different grids and were not compared" in text


def test_levels_of_another_kind_are_a_difference(tmp_path: Path) -> None:
    paths = [
        store(tmp_path, str(i), {"levels": [1.0, 2.0], "level_units": units})
        for i, units in enumerate(("hPa", "m", ""))
    ]
    assert lines(compare(paths[0], paths[1])) == "levels: units is hPa in the first store, m in the second"
    assert compare(paths[0], paths[2]).same, "the levels of one do not say what they are"
