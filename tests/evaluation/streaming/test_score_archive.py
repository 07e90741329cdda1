"""What is kept is read as it was written, and a changed byte is refused."""

from pathlib import Path

import pytest
import xarray as xr

from pelagos.evaluation import scores
from pelagos.evaluation.forecast_plan import StartsConfig
from pelagos.evaluation.streaming.score_archive import (
    labelled,
    read_attributes,
    read_scores,
    sums_of,
    write_scores,
)
from pelagos.evaluation.verification import make_evaluator
from pelagos.preprocessing.errors import DamagedFileError, MissingFileError
from pelagos.preprocessing.store.store import Store


@pytest.fixture(scope="module")
def kept(store: Store) -> dict[str, xr.Dataset]:
    plan = StartsConfig(every=2, steps=2).plan(store)
    work = make_evaluator(store, plan, store.variables, {}, ["persistence", "climatology"])
    return {name: labelled(state, store.time_units) for name, state in work.score_all(4).items()}


def test_an_archive_is_read_as_it_was_written(kept: dict[str, xr.Dataset], tmp_path: Path) -> None:
    path = tmp_path / "scores.zarr"
    assert read_attributes(path) == {}
    write_scores(path, kept.items(), {"digest": "d"})
    assert read_attributes(path)["digest"] == "d"
    found = read_scores(path)
    assert list(found) == ["truth", "persistence", "climatology"]
    for name, content in kept.items():
        xr.testing.assert_equal(found[name].load(), content)
        assert found[name].attrs == content.attrs
    xr.testing.assert_equal(
        scores.rmse(sums_of(found["persistence"])), scores.rmse(sums_of(kept["persistence"]))
    )


def test_an_archive_has_the_same_bytes_each_time(kept: dict[str, xr.Dataset], tmp_path: Path) -> None:
    contents = []
    for name in ("one.zarr", "other.zarr"):
        write_scores(tmp_path / name, kept.items(), {})
        files = sorted(file for file in (tmp_path / name).rglob("*") if file.is_file())
        contents.append({str(file.relative_to(tmp_path / name)): file.read_bytes() for file in files})
    assert contents[0] == contents[1]


def test_a_changed_byte_is_refused(kept: dict[str, xr.Dataset], tmp_path: Path) -> None:
    path = tmp_path / "scores.zarr"
    with pytest.raises(MissingFileError, match="`pelagos evaluate` writes them"):
        read_scores(path)
    write_scores(path, kept.items(), {})
    chunk = next(file for file in path.rglob("c/**/*") if file.is_file())
    chunk.write_bytes(bytes([chunk.read_bytes()[0] ^ 1]) + chunk.read_bytes()[1:])
    with pytest.raises(DamagedFileError, match="fails its checksum"):
        read_scores(path)
