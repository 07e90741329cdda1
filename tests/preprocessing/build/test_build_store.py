import hashlib
import logging
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from analytic_source import Analytic, configuration
from distributed import LocalCluster

from pelagos.preprocessing import durable
from pelagos.preprocessing.build import workers
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.build.duplicate_starts import initial_digests, read_initial_digests
from pelagos.preprocessing.build.group_writer import write_skeleton
from pelagos.preprocessing.build.partition import Part, check_partition, chunk_of
from pelagos.preprocessing.build.plan import make_plan
from pelagos.preprocessing.build.repair import repair
from pelagos.preprocessing.errors import ConfigError, DamagedFileError, DataError
from pelagos.preprocessing.inspection.inspect_path import inspect
from pelagos.preprocessing.store.manifest import read_manifest
from pelagos.preprocessing.store.store import open_store, verify

RICH = {"trajectories": 8, "static": "varying", "scalars": True}


def contents(path: Path) -> dict[str, str]:
    files = (file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def local_cluster(processes: bool) -> LocalCluster:
    quiet = {"dashboard": False, "dashboard_address": ":0"}
    return LocalCluster(
        n_workers=2, threads_per_worker=2, processes=processes, protocol="tcp://", scheduler_kwargs=quiet
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a build of `RICH` in one process and in one go makes."""
    return contents(build(configuration(tmp_path_factory.mktemp("undisturbed"), RICH)))


# ---------------------------------------------------------------- workers, parts and interruptions


@pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])
def test_a_dask_scheduler_makes_the_same_bytes(
    tmp_path: Path, undisturbed: dict[str, str], processes: bool
) -> None:
    with local_cluster(processes) as cluster:
        path = build(configuration(tmp_path, RICH, scheduler=cluster.scheduler_address))
    assert contents(path) == undisturbed


def test_parts_of_an_array_of_jobs_make_the_same_bytes(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    for part in ("2/3", "1/3"):
        growing = build(configuration(tmp_path, RICH, part=part))
        assert growing.name == "analytic-1.zarr.building"
    path = build(configuration(tmp_path, RICH, part="3/3"))
    assert path.name == "analytic-1.zarr"
    assert contents(path) == undisturbed


def test_workers_on_slurm_without_slurm_are_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configuration(tmp_path, RICH, workers={"kind": "slurm", "jobs": 2})
    monkeypatch.setitem(sys.modules, "dask_jobqueue", SimpleNamespace(SLURMCluster=None))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match="there is no sbatch on this machine"):
        build(config)
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(ConfigError, match=r"needs dask-jobqueue: pip install 'pelagos\[slurm\]'"):
        build(config)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_killed_build_goes_on_to_the_same_bytes(
    tmp_path: Path, undisturbed: dict[str, str], workers: int
) -> None:
    config = configuration(tmp_path, RICH)
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


def test_a_finished_shard_that_was_damaged_is_done_again(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    build(configuration(tmp_path, RICH, part="1/2"))
    shard = tmp_path / "analytic/analytic-1.zarr.building/state/c/2/0/0/0/0"
    content = bytearray(shard.read_bytes())
    content[5] ^= 1
    shard.write_bytes(content)
    assert contents(build(configuration(tmp_path, RICH))) == undisturbed


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


# ---------------------------------------------------------------- plans


def test_a_plan_is_checked_before_anything_is_written(tmp_path: Path) -> None:
    plan = make_plan(configuration(tmp_path, shard_bytes=8192))
    parts, layout = plan.parts, plan.state
    assert [part.trajectories for part in parts] == [(0, 3), (3, 6)]
    check_partition(parts, layout)
    with pytest.raises(DataError, match=r"shard \(1, 0\) belongs to no part"):
        check_partition(parts[:1], layout)
    with pytest.raises(DataError, match=r"shard \(0, 0\) belongs to more than one part"):
        check_partition([*parts, parts[0]], layout)
    misaligned = Part(cell=(1, 0), trajectories=(2, 5), times=(0, 5))
    with pytest.raises(DataError, match=r"part 1\.0 covers trajectories \(2, 5\).*its shard is.*\(3, 6\)"):
        check_partition([parts[0], misaligned], layout)
    with pytest.raises(DataError, match=r"part 2\.0 is outside"):
        check_partition([*parts, Part(cell=(2, 0), trajectories=(6, 9), times=(0, 5))], layout)


def test_shards_hold_whole_trajectories_or_blocks_of_time(tmp_path: Path) -> None:
    # A frame of two channels of 8 x 8 points has 512 bytes, a trajectory of 5 frames 2560.
    shards = {
        bytes_: make_plan(configuration(tmp_path, shard_bytes=bytes_)).state.shard[:2]
        for bytes_ in (100, 1000, 1280, 2560, 5120, 10**9)
    }
    assert shards == {100: (1, 1), 1000: (1, 2), 1280: (1, 5), 2560: (1, 5), 5120: (2, 5), 10**9: (6, 5)}


@pytest.mark.parametrize(
    ("frame", "chunk"),
    [
        ((4, 128, 128), (4, 128, 128)),
        ((5, 512, 512), (1, 512, 512)),
        ((69, 721, 1440), (1, 103, 1440)),  # 721 = 7 x 103
        ((3, 181, 360), (3, 181, 360)),
        ((3, 1801, 3600), (1, 53, 3600)),  # 1801 is a prime; 34 x 53 = 1802
        ((2, 1059, 1799), (1, 106, 1799)),  # 3 x 353; 10 x 106 = 1060
        ((1, 1, 1 << 20), (1, 1, 1 << 20)),
        ((0, 721, 1440), (0, 721, 1440)),
    ],
)
def test_chunks_are_frames_or_channels_or_rows_of_a_mebibyte_at_most(
    frame: tuple[int, int, int], chunk: tuple[int, int, int]
) -> None:
    assert chunk_of(frame) == chunk


def test_chunks_of_rows_take_between_a_quarter_and_all_of_the_largest_size() -> None:
    for height in range(2, 3000, 7):
        for width in (1000, 1440, 3600):
            channels, rows, _ = chunk_of((2, height, width))
            if rows < height:
                assert channels == 1
                assert 1 << 18 <= 4 * rows * width <= 1 << 20
                assert -height % rows <= 0.05 * height


def test_blocks_of_time_hold_what_whole_trajectories_do(tmp_path: Path) -> None:
    source = {"trajectories": 3, "times": 9, "static": "varying"}
    stores = [
        open_store(build(configuration(tmp_path, source, version=str(size), shard_bytes=size)))
        for size in (1000, 10**6)
    ]
    for trajectory in range(3):
        assert np.array_equal(*(store.read(trajectory, 0, 9) for store in stores))
        assert np.array_equal(*(store.static(trajectory) for store in stores))
    for name in ("mean", "std", "minimum", "maximum", "tendency_mean", "tendency_std", "static_mean"):
        blocks, whole = (getattr(store.stats, name) for store in stores)
        assert blocks == pytest.approx(whole, rel=1e-9, abs=1e-12), name


# ---------------------------------------------------------------- statistics and missing values


def test_statistics_are_those_of_the_training_split(tmp_path: Path) -> None:
    store = open_store(build(configuration(tmp_path, {"static": "varying"})))
    values = Analytic().values("velocity_x").astype(np.float64)[:4]
    stats = store.stats
    assert stats.count[0] == values.size
    assert stats.mean[0] == pytest.approx(values.mean(), rel=1e-12)
    assert stats.std[0] == pytest.approx(values.std(), rel=1e-12)
    assert (stats.minimum[0], stats.maximum[0]) == (values.min(), values.max())
    assert stats.tendency_mean == pytest.approx([0.1, 0.2], rel=1e-6)
    depth = Analytic().values("depth").astype(np.float64)[:4, 0]
    assert stats.static_mean[0] == pytest.approx(depth.mean(), rel=1e-12)


def test_time_splits_leave_out_differences_across_their_edges(tmp_path: Path) -> None:
    splits = {"kind": "time", "train": (0, 4), "test": (4, 6)}
    store = open_store(
        build(configuration(tmp_path, {"trajectories": 1, "times": 6}, splits=splits, shard_bytes=1024))
    )
    assert store.stats.count.tolist() == [4 * 64] * 2
    values = Analytic(trajectories=1, times=6).values("velocity_x").astype(np.float64)[0, :4]
    assert store.stats.std[0] == pytest.approx(values.std(), rel=1e-12)
    assert store.splits["test"][0].tolist() == [False] * 4 + [True] * 2


def test_channels_without_variation_are_not_scaled(tmp_path: Path) -> None:
    store = open_store(build(configuration(tmp_path, {"trajectories": 3, "size": 1, "times": 1})))
    assert store.stats.constant.tolist() == [True, True]
    assert store.stats.std.tolist() == [1, 1]
    # All differences are 0.1 or 0.2 up to rounding.
    tendencies = open_store(build(configuration(tmp_path, version="2"))).stats
    assert tendencies.tendency_std.tolist() == [1, 1]


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


def test_a_store_in_which_nothing_trains_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    build(configuration(tmp_path))
    assert "no frame trains" not in caplog.text
    path = build(configuration(tmp_path, version="2", splits={"kind": "trajectories", "test": 6}))
    assert f"{path}: no frame trains, so there are no statistics" in caplog.text
    assert "not measured" in inspect(path)


# ---------------------------------------------------------------- initial conditions

# Trajectories 3, 4 and 5 begin as 0, 1 and 2, with other viscosities.
AGAIN = {"repeats": 3, "scalars": True, "names": ["velocity_x", "velocity_y", "density"]}
TOGETHER = {"kind": "trajectories", "valid": 2, "test": 2, "group_by": ["initial_condition"]}


def names_of_splits(path: Path) -> list[str]:
    splits = open_store(path).splits
    return [next(name for name in splits if splits[name][n].all()) for n in range(len(splits["train"]))]


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
    assert repair(path) == ["split/c/0/0"]
    assert verify(path, sha256=True) == []


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


def test_workers_parts_and_later_runs_share_the_initial_conditions_that_were_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = build(configuration(tmp_path / "whole", AGAIN, splits=TOGETHER))
    build(configuration(tmp_path, AGAIN, splits=TOGETHER, part="1/3"))

    def fail(fields: Any) -> Any:
        raise AssertionError("they are known")

    monkeypatch.setattr("pelagos.preprocessing.build.plan.read_initial_digests", fail)
    build(configuration(tmp_path, AGAIN, splits=TOGETHER, part="2/3"))
    with local_cluster(processes=False) as cluster:
        path = build(configuration(tmp_path, AGAIN, splits=TOGETHER, scheduler=cluster.scheduler_address))
    assert contents(path) == contents(whole)


def test_initial_conditions_are_read_in_little_memory(tmp_path: Path) -> None:
    peaks = []
    for trajectories in (100, 1000):
        path = archive(tmp_path / f"2D_CFD_{trajectories}_periodic.hdf5", trajectories)
        fields = make_plan(large(path)).fields
        tracemalloc.start()
        assert read_initial_digests(fields) == [""] * trajectories
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0] < 32 << 20


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
    options = {"missing": "keep", "transforms": {"velocity_x": {"scale": 0.1}}}
    with pytest.raises(DataError, match=r"velocity_x, trajectory 3, .*the value is -inf .* its transform"):
        build(configuration(tmp_path, **options))


def test_missing_values_that_are_kept_stay_out_of_statistics(tmp_path: Path) -> None:
    plain = open_store(build(configuration(tmp_path, {"missing": (0, 1)}, missing="keep")))
    values = Analytic(missing=(0, 1)).values("velocity_x").astype(np.float64)[:4]
    assert plain.num_missing == 2
    assert plain.stats.count.tolist() == [np.isfinite(values).sum()] * 2
    assert plain.stats.mean[0] == pytest.approx(np.nanmean(values), rel=1e-12)
    assert plain.stats.std[0] == pytest.approx(np.nanstd(values), rel=1e-12)
    assert plain.mask.all()
    assert np.isnan(plain.read(0, 1, 2)[0, :, 0, 1]).all()


def test_a_sea_without_values_stays_out_of_statistics_and_mask(tmp_path: Path) -> None:
    store = open_store(build(configuration(tmp_path, {"sea": 3}, missing="keep")))
    land = Analytic().values("velocity_x").astype(np.float64)[:4, :, :, 3:]
    assert store.stats.count[0] == land.size
    assert store.stats.mean[0] == pytest.approx(land.mean(), rel=1e-12)
    assert store.stats.std[0] == pytest.approx(land.std(), rel=1e-12)
    assert not store.mask[:, :, :3].any()
    assert store.mask[:, :, 3:].all()
    assert store.num_missing == 6 * 5 * 2 * 8 * 3


# ---------------------------------------------------------------- sources that change or break


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


def test_sources_are_recorded_with_their_checksums(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(bytes(6))
    source = {"path": str(archive)}
    records = [
        _provenance(build(configuration(tmp_path, source, version=str(wanted), checksum_sources=wanted)))
        for wanted in (True, False)
    ]
    assert records[0] == [{"path": str(archive), "bytes": 6, "sha256": hashlib.sha256(bytes(6)).hexdigest()}]
    assert records[1] == [{"path": str(archive), "bytes": 6, "sha256": ""}]


def _provenance(path: Path) -> Any:
    return zarr.open_group(path, mode="r").attrs["provenance"]["sources"]


def test_impossible_shares_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="part: 3/2 must be one of 1/2 to 2/2"):
        build(configuration(tmp_path, part="3/2"))


# ---------------------------------------------------------------- memory


def archive(path: Path, trajectories: int) -> Path:
    """A large archive that takes no room: nothing of its fields was ever written."""
    with h5py.File(path, "w") as file:
        for name in ("density", "pressure", "Vx", "Vy"):
            file.create_dataset(name, (trajectories, 8, 128, 128), "f4", fillvalue=1.5)
        axis = (np.arange(128) + 0.5) / 128
        file["x-coordinate"], file["y-coordinate"], file["t-coordinate"] = axis, axis, np.arange(9.0)
    return path


def large(path: Path, **options: Any) -> BuildConfig:
    values = {"dataset": "large", "source": {"kind": "pdebench", "paths": str(path)}, "root": path.parent}
    return BuildConfig.model_validate(values | options)


def peak_of_a_task(folder: Path, trajectories: int, **options: Any) -> float:
    """Memory that one task needs, from the opening of the source on, in units of what it writes."""
    path = archive(folder / f"2D_CFD_{trajectories}_periodic.hdf5", trajectories)
    config = large(path, shard_bytes=32 << 20, **options)
    plan = make_plan(config)
    root = folder / f"root-{trajectories}"
    write_skeleton(root, plan)
    (root / "_build/shards").mkdir(parents=True)
    arguments = (root, config.model_dump_json(), plan.fingerprint)
    workers.write_on_worker(*arguments, len(plan.parts) - 1)  # imports, and what is made once a process
    workers.worker_plan.cache_clear()
    tracemalloc.start()
    workers.write_on_worker(*arguments, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return float(peak / (4 * np.prod(plan.state.shard)))


@pytest.mark.parametrize(
    "options",
    [{"codec": "none"}, {"codec": "blosc-lz4", "bits": {"density": 7}}, {"regrid": {"shape": [96, 80]}}],
    ids=["plain", "compressed", "regridded"],
)
def test_a_task_needs_little_more_memory_than_its_shard(tmp_path: Path, options: dict[str, Any]) -> None:
    peaks = [peak_of_a_task(tmp_path, trajectories, **options) for trajectories in (40, 400)]
    assert 1 < peaks[0] <= 1.2
    # Flat as the archive grows tenfold; how many small buffers of the writing threads live at once varies.
    assert peaks[1] == pytest.approx(peaks[0], abs=0.03)


def test_static_fields_count_as_part_of_what_a_task_writes(tmp_path: Path) -> None:
    # A frame of two channels has 512 bytes and the static field of a trajectory 256.
    plan = make_plan(configuration(tmp_path, {"static": "varying", "times": 1}, shard_bytes=3072))
    assert (plan.state.shard[0], plan.static.shard[0]) == (4, 4)
    plan = make_plan(configuration(tmp_path, {"static": "common", "times": 1}, shard_bytes=3072))
    assert plan.state.shard[0] == 6
