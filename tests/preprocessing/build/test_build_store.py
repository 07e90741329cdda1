import errno
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any
from weakref import WeakSet

import numpy as np
import pytest
import xarray as xr
from analytic_source import configuration, contents

from pelagos.preprocessing.build import complete_store
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.build.part_totals import PartTotals
from pelagos.preprocessing.build.plan import make_plan
from pelagos.preprocessing.build.write_part import PartRecord, read_record
from pelagos.preprocessing.errors import ConfigError, DamagedFileError, DataError
from pelagos.preprocessing.files import durable
from pelagos.preprocessing.inspection.inspect_path import inspect
from pelagos.preprocessing.sources.healpix import Healpix
from pelagos.preprocessing.store.manifest import verify
from pelagos.preprocessing.store.store import open_store


def test_parts_of_an_array_of_jobs_make_the_same_bytes(
    rich: dict[str, Any], tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    for part in ("2/3", "1/3"):
        growing = build(configuration(tmp_path, rich, part=part))
        assert growing.name == "analytic-1.zarr.building"
    path = build(configuration(tmp_path, rich, part="3/3"))
    assert path.name == "analytic-1.zarr"
    assert contents(path) == undisturbed


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_killed_build_goes_on_to_the_same_bytes(
    rich: dict[str, Any], tmp_path: Path, undisturbed: dict[str, str], workers: int
) -> None:
    config = configuration(tmp_path, rich)
    _build_and_kill(config, shards=1 + 2 * workers, delay=0.05 * np.random.default_rng().random())
    growing = config.path.with_name("analytic-1.zarr.building")
    finished = {
        name for name in contents(growing) if name.startswith("_build/shards/") and name.endswith("json")
    }
    assert 1 <= len(finished) < 8
    before = {name: (growing / name).stat().st_mtime_ns for name in finished}
    if workers == 0:
        (growing / "state/c/7/0/0/0").mkdir(parents=True, exist_ok=True)
        (growing / "state/c/7/0/0/0/.0.1234.partial").write_bytes(b"torn")
    kept: dict[str, int] = {}

    def look(done: int, num: int) -> None:
        kept.update({name: (growing / name).stat().st_mtime_ns for name in finished})
        assert num == 8

    path = build(config.model_copy(update={"workers": workers}), look)
    assert kept == before, "what was finished is not done again"
    assert contents(path) == undisturbed
    assert verify(path) == []


def _build_and_kill(config: BuildConfig, shards: int, delay: float) -> None:
    """Begin a build in another process and kill it a moment after so many shards are finished."""
    script = (
        "import sys; from pelagos.preprocessing.build.build_config import BuildConfig; "
        "from pelagos.preprocessing.build.build_store import build; "
        "build(BuildConfig.model_validate_json(sys.argv[1]))"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "ANALYTIC_PAUSE": "0.02"}
    process = subprocess.Popen([sys.executable, "-c", script, config.model_dump_json()], env=environment)
    entries = config.path.with_name(f"{config.path.name}.building") / "_build" / "shards"
    while process.poll() is None and (not entries.is_dir() or len(list(entries.glob("*.json"))) < shards):
        time.sleep(0.002)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the build was over before it could be killed"


def test_a_finished_shard_that_was_damaged_is_done_again(
    rich: dict[str, Any], tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    build(configuration(tmp_path, rich, part="1/2"))
    shard = tmp_path / "analytic/analytic-1.zarr.building/state/c/2/0/0/0/0"
    content = bytearray(shard.read_bytes())
    content[5] ^= 1
    shard.write_bytes(content)
    assert contents(build(configuration(tmp_path, rich, check_finished=True))) == undisturbed


@pytest.mark.parametrize("shortened", [True, False])
def test_a_build_that_goes_on_takes_finished_shards_of_the_right_size(
    rich: dict[str, Any], tmp_path: Path, undisturbed: dict[str, str], shortened: bool
) -> None:
    build(configuration(tmp_path, rich, part="1/2"))
    shard = "state/c/2/0/0/0/0"
    file = tmp_path / "analytic/analytic-1.zarr.building" / shard
    file.write_bytes(file.read_bytes()[:-1] if shortened else file.read_bytes()[:-1] + b"?")
    path = build(configuration(tmp_path, rich))
    if shortened:
        assert contents(path) == undisturbed
    else:
        assert [(damage.path, damage.kind) for damage in verify(path)] == [(shard, "checksum")]


def test_of_two_shares_that_end_together_one_completes_the_store(
    rich: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, str]
) -> None:
    build(configuration(tmp_path, rich, part="1/2"))
    other = Thread(target=lambda: build(configuration(tmp_path, rich, part="1/2")))

    def stale(building: Path) -> int:
        # What the last one's file system shows it may be a moment old.
        monkeypatch.undo()
        other.start()
        other.join(0.3)
        return 0

    monkeypatch.setattr(complete_store, "num_recorded", stale)
    build(configuration(tmp_path, rich, part="2/2"))
    other.join()
    assert contents(configuration(tmp_path).path) == undisturbed


def test_completion_holds_one_record_at_a_time(rich: dict[str, Any], tmp_path: Path) -> None:
    plan = make_plan(configuration(tmp_path, rich, shard_bytes=1000))
    build(configuration(tmp_path, rich, shard_bytes=1000, part="1/2"))
    root = tmp_path / "analytic/analytic-1.zarr.building"
    alive: WeakSet[PartRecord] = WeakSet()

    def records() -> Iterator[PartRecord]:
        for part in plan.parts[::2]:
            record = read_record(root, plan, part)
            assert record is not None
            alive.add(record)
            assert len(alive) <= 2  # the one that is taken, and the one that follows it
            yield record

    totals = PartTotals(records())
    assert len(totals.files) > len(plan.parts[::2]) > 4


def test_two_builds_of_one_store_at_a_time_are_refused(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    config.path.parent.mkdir(parents=True)
    with (
        durable.lock(config.path.with_name(".analytic-1.zarr.lock")),
        pytest.raises(DataError, match="another process holds this lock"),
    ):
        build(config)


def test_progress_counts_shards(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    build(configuration(tmp_path), lambda done, num: seen.append((done, num)))
    assert seen == [(done, 6) for done in range(7)]


def test_blocks_of_time_hold_what_whole_trajectories_do(tmp_path: Path) -> None:
    source = {"trajectories": 3, "times": 9, "static": "varying"}
    stores = [
        open_store(build(configuration(tmp_path, source, version=str(size), shard_bytes=size)))
        for size in (1000, 10**6)
    ]
    for trajectory in range(3):
        assert np.array_equal(stores[0].read(trajectory, 0, 9), stores[1].read(trajectory, 0, 9))
        assert np.array_equal(stores[0].static(trajectory), stores[1].static(trajectory))
    for name in ("mean", "std", "minimum", "maximum", "tendency_mean", "tendency_std", "static_mean"):
        blocks, whole = (getattr(store.stats, name) for store in stores)
        assert blocks == pytest.approx(whole, rel=1e-9, abs=1e-12), name


def test_a_store_in_which_nothing_trains_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    build(configuration(tmp_path))
    assert "no frame trains" not in caplog.text
    path = build(configuration(tmp_path, version="2", splits={"kind": "trajectories", "test": 6}))
    assert f"{path}: no frame trains, so there are no statistics" in caplog.text
    assert "not measured" in inspect(path)


def test_a_truncated_source_is_named_and_finished_shards_are_kept(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(bytes(4))
    config = configuration(tmp_path, {"path": str(archive)})
    with pytest.raises(DamagedFileError, match=r"archive: cannot read velocity_x: unexpected end of file"):
        build(config)
    growing = tmp_path / "analytic/analytic-1.zarr.building/_build/shards"
    assert sorted(file.name for file in growing.iterdir()) == ["0.0.json", "1.0.json", "2.0.json", "3.0.json"]
    archive.write_bytes(bytes(6))
    with pytest.raises(DataError, match=r"archive has changed since; .*overwrite=true to begin again"):
        build(config)
    assert verify(build(config.model_copy(update={"overwrite": True}))) == []


def test_a_build_notices_that_the_places_of_its_cells_have_changed(tmp_path: Path) -> None:
    """A grid file is no field's file, but where values are stored depends on it."""
    latitude, longitude = Healpix(4, nested=True).centres()
    shift = np.arange(len(latitude)) % 7 / 10  # so that it is no known grid
    places = {
        "clat": ("cell", np.deg2rad(latitude), {"standard_name": "latitude", "units": "radian"}),
        "clon": ("cell", np.deg2rad(longitude + shift), {"standard_name": "longitude", "units": "radian"}),
    }
    days = np.array(["2020-01-01", "2020-01-02"], "M8[ns]")
    cells = xr.Variable(("time", "cell"), np.stack([latitude, longitude]), {"units": "K"})
    xr.Dataset({"tas": cells}, {"time": days}).to_netcdf(tmp_path / "data.nc", engine="h5netcdf")
    xr.Dataset(places).to_netcdf(tmp_path / "grid.nc", engine="h5netcdf")
    values = {
        "dataset": "cells",
        "root": str(tmp_path / "stores"),
        "source": {
            "kind": "cf",
            "paths": str(tmp_path / "data.nc"),
            "grid_file": str(tmp_path / "grid.nc"),
        },
        "regrid": {"to": "latlon", "method": "linear", "shape": (12, 24)},
        "part": "1/2",
    }
    build(BuildConfig.model_validate(values | {"shard_bytes": 1024}))
    places["clon"] = ("cell", np.deg2rad(longitude - shift), places["clon"][2])
    xr.Dataset(places).to_netcdf(tmp_path / "grid.nc", engine="h5netcdf")
    with pytest.raises(DataError, match=r"grid\.nc has changed since"):
        build(BuildConfig.model_validate(values | {"shard_bytes": 1024, "part": "2/2"}))


def test_a_half_finished_build_is_not_continued_with_another_configuration(tmp_path: Path) -> None:
    build(configuration(tmp_path, part="1/2"))
    with pytest.raises(
        DataError, match=r"differs: its configuration \(codec: 'none' there, 'blosc-lz4' here\)"
    ):
        build(configuration(tmp_path, codec="blosc-lz4"))


def test_a_finished_store_is_never_changed_silently(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = build(configuration(tmp_path))
    before = contents(path)
    with caplog.at_level(logging.INFO, "pelagos"):
        assert build(configuration(tmp_path)) == path
    assert "already built" in caplog.text
    other = configuration(tmp_path, splits={"kind": "trajectories", "test": 2})
    with pytest.raises(
        ConfigError,
        match=r"splits\.test: 1 there, 2 here.*another version, or replace this one by overwrite=true",
    ):
        build(other)
    assert contents(path) == before
    build(other.model_copy(update={"overwrite": True}))
    assert open_store(path).splits["test"][:, 0].sum() == 2
    assert [file.name for file in path.parent.iterdir() if file.is_dir()] == [path.name]


def test_impossible_shares_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="part: 3/2 must be one of 1/2 to 2/2"):
        build(configuration(tmp_path, part="3/2"))


def test_a_complete_store_on_a_read_only_disk_is_built(
    rich: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configuration(tmp_path, rich)
    path = build(config)

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    # As Linux does: before it looks whether there is anything to delete.
    for name in ("unlink", "rmdir"):
        monkeypatch.setattr(os, name, refuse)
    assert build(config) == path
