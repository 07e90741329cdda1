"""Times of The Well: trajectories that start or end at different times share one axis, or are asked about."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import zarr

from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.build.repair import repair
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.fields.field_options import FieldOptions
from pelagos.preprocessing.fields.select_fields import select_fields
from pelagos.preprocessing.inspection.inspect_path import inspect
from pelagos.preprocessing.samples.dataset import DatasetConfig
from pelagos.preprocessing.sources.file_source import FileSource
from pelagos.preprocessing.sources.formats.the_well import TheWell
from pelagos.preprocessing.store.store import open_store
from pelagos.preprocessing.store.xarray_view import xarray_view
from tests.preprocessing.sources.contracts import SourceContract
from tests.preprocessing.sources.formats.well_archive import N, T, X, Y, of_lengths, with_times


def test_times_that_all_trajectories_share_are_kept(tmp_path: Path) -> None:
    ds = with_times(tmp_path / "a.hdf5", *[3 + np.arange(T) / 4] * 3).open()
    np.testing.assert_array_equal(ds.time, 3 + np.arange(T) / 4)
    assert list(ds) == ["density"]


@pytest.mark.parametrize("step", [0.25, 0.01])
def test_trajectories_that_start_at_different_times_count_from_their_start(
    tmp_path: Path, step: float
) -> None:
    starts = [500.0, 0.0, 7.5]
    source = with_times(tmp_path / "a.hdf5", *[start + np.arange(T) * step for start in starts])
    ds = source.open()
    np.testing.assert_allclose(ds.time, np.arange(T) * step, rtol=1e-6)
    np.testing.assert_array_equal(ds.start_time, starts)
    assert (ds.start_time.dims, ds.start_time.attrs["role"]) == (("trajectory",), "scalar")
    config = {"dataset": "well", "source": source.model_dump() | {"kind": "the_well"}, "root": tmp_path}
    dataset = DatasetConfig(path=build(BuildConfig.model_validate(config)), time_scale=1.0).open()
    batch = dataset.batch(np.arange(dataset.num_samples))
    np.testing.assert_allclose(batch.lead_time, step * (batch.index[:, 2] - batch.index[:, 1]), rtol=1e-6)
    np.testing.assert_array_equal(batch.scalars[:, 0], np.array(starts)[batch.index[:, 0]])


@pytest.mark.parametrize("starts", [[1e4, 1e4], [1e4, 0.0], [0.0, 1e4], [1e4, 2e4]])
def test_late_times_are_as_even_as_single_precision_can_say(tmp_path: Path, starts: list[float]) -> None:
    rows = [(start + 0.01 * np.arange(T)).astype(np.float32) for start in starts]
    single, double = (
        with_times(tmp_path / f"{t.__name__}.hdf5", *rows, dtype=t) for t in (np.float32, np.float64)
    )
    axis = select_fields(single.open(), FieldOptions()).axis
    np.testing.assert_allclose(np.diff(axis), 0.01, rtol=0.05)
    with pytest.raises(DataError, match=r"times are not evenly spaced|a dataset has one step in time"):
        select_fields(double.open(), FieldOptions())


def test_trajectories_of_different_steps_are_refused_until_one_step_is_chosen(tmp_path: Path) -> None:
    rows = [np.arange(T) * step for step in (0.25, 0.5, 0.25)]
    source = with_times(tmp_path / "a.hdf5", *rows)
    with pytest.raises(
        DataError,
        match=r"a\.hdf5, trajectory 1: frames 0 and 1 are 0\.5 apart, and 0\.25 in .*a\.hdf5, trajectory 0: a"
        r" dataset has one step.* Steps are 0\.25, 0\.5: make a dataset of each, as in dt: 0\.25",
    ):
        source.open()
    with h5py.File(tmp_path / "a.hdf5") as file:
        density = file["t0_fields/density"][()]
    for step, taken in ((0.25, [0, 2]), (0.5, [1])):
        ds = source.model_copy(update={"dt": step}).open()
        np.testing.assert_array_equal(ds.time, rows[taken[0]])
        np.testing.assert_array_equal(ds.trajectory, taken)
        np.testing.assert_array_equal(ds.density, density[taken].swapaxes(-1, -2))
    with pytest.raises(
        ConfigError, match=r"dt: no trajectory of .*a\.hdf5 has steps of 1; there are 0\.25, 0\.5"
    ):
        source.model_copy(update={"dt": 1.0}).open()


def test_times_of_uneven_steps_that_differ_are_refused(tmp_path: Path) -> None:
    late = np.array([0, 0.25, 0.5, 0.875, 1.125])
    with pytest.raises(DataError, match=r"trajectory 1: frames 2 and 3 are 0\.375 apart, and 0\.25 in"):
        with_times(tmp_path / "a.hdf5", np.arange(T) / 4, late).open()


def test_files_of_different_starts_and_steps_are_told_apart(tmp_path: Path) -> None:
    for i, (start, step) in enumerate([(0, 0.25), (2, 0.25), (0, 0.5)]):
        with_times(tmp_path / f"p{i}.hdf5", start + np.arange(T) * step)
    ds = TheWell(paths=[f"{tmp_path}/p0.hdf5", f"{tmp_path}/p1.hdf5"]).open()
    np.testing.assert_array_equal(ds.start_time, [0, 2])
    source = TheWell(paths=f"{tmp_path}/p*.hdf5")
    with pytest.raises(
        DataError, match=r"p2\.hdf5, trajectory 0: frames 0 and 1 are 0\.5 apart, and 0\.25 in"
    ):
        source.open()
    assert source.model_copy(update={"dt": 0.25}).open().sizes["trajectory"] == 2


class TestTheWellOfSeveralLengths(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> FileSource:
        return of_lengths(tmp_path_factory.mktemp("lasting"))


def test_files_that_last_longer_leave_frames_of_others_absent(tmp_path: Path) -> None:
    ds = of_lengths(tmp_path, 3, 5).open()
    np.testing.assert_array_equal(ds.time, np.arange(5) / 4)
    np.testing.assert_array_equal(ds.present, np.arange(5) < np.repeat([3, 5], N)[:, None])
    whole = ds.density.values
    np.testing.assert_array_equal(np.floor(whole[N:, :, 0, 0]), [10 + np.arange(5)] * N)
    np.testing.assert_array_equal(np.floor(whole[:N, :3, 0, 0]), [np.arange(3)] * N)
    assert np.isnan(whole[:N, 3:]).all()
    np.testing.assert_array_equal(np.isnan(ds.body_mask), np.isnan(whole))
    assert not np.isnan(ds.profile).any()
    for times in ([4], [1, 4], [0, 3], slice(1, None, 2), slice(3, 3), 2, 4):
        np.testing.assert_array_equal(ds.density.isel(time=times), whole[:, times])


def test_only_frames_that_are_there_count(tmp_path: Path) -> None:
    source = of_lengths(tmp_path, 3, 5)
    config = {"dataset": "well", "source": source.model_dump() | {"kind": "the_well"}, "root": tmp_path}
    path = build(BuildConfig.model_validate(config | {"splits": {"kind": "trajectories", "test": 1}}))
    store, fields = open_store(path), source.open()
    split = zarr.open_array(path / "split")
    np.testing.assert_array_equal(split[:], [[0, 0, 0, -2, -2]] * 2 + [[0] * 5] + [[2] * 5])
    assert split.attrs["flag_meanings"] == "absent unused train valid test"
    assert split.attrs["flag_values"] == [-2, -1, 0, 1, 2]
    trained = fields.density[:-1].values
    assert (store.num_missing, store.stats.count[0]) == (0, 11 * X * Y)
    np.testing.assert_allclose(store.stats.mean[0], np.nanmean(trained), rtol=1e-6)
    np.testing.assert_allclose(store.stats.tendency_mean[0], np.nanmean(np.diff(trained, axis=1)), rtol=1e-6)
    np.testing.assert_array_equal(xarray_view(store).present, fields.present)
    dataset = DatasetConfig(path=path, time_scale=1.0).open()
    batch = dataset.batch(np.arange(dataset.num_samples))
    assert dataset.num_samples == 2 * 3 + 10
    assert batch.index[batch.index[:, 0] < 2, 2].max() == 2
    assert torch.isfinite(batch.targets).all()
    assert "well 1: 4 trajectories of 3 to 5 frames" in inspect(path)


def test_a_value_missing_in_a_frame_that_is_there_is_an_error(tmp_path: Path) -> None:
    source = of_lengths(tmp_path, 3, 5)
    with h5py.File(tmp_path / "p0.hdf5", "r+") as file:
        file["t0_fields/density"][1, 2, 4, 3] = np.nan
    config = {"dataset": "well", "source": source.model_dump() | {"kind": "the_well"}, "root": tmp_path}
    with pytest.raises(
        DataError, match=r"density, trajectory 1, time 2 \(0\.5\), y 3, x 4: the value is missing"
    ):
        build(BuildConfig.model_validate(config))
    path = build(BuildConfig.model_validate(config | {"missing": "keep", "version": "2"}))
    assert open_store(path).num_missing == 1
    (path / "mask/c/0/0/0").unlink()
    (path / "split/c/0/0").unlink()
    assert repair(path) == ["mask/c/0/0/0", "split/c/0/0"]


def test_of_files_that_last_longer_the_step_asked_for_decides(tmp_path: Path) -> None:
    with_times(tmp_path / "p0.hdf5", 7 + 0.25 * np.arange(3), 0.25 * np.arange(3))
    with_times(tmp_path / "p1.hdf5", 0.5 * np.arange(T))
    source = TheWell(paths=f"{tmp_path}/p*.hdf5")
    with pytest.raises(
        DataError, match=r"p0\.hdf5, trajectory 0: frames 0 and 1 are 0\.25 apart, and 0\.5 in .*p1"
    ):
        source.open()
    quick, slow = (source.model_copy(update={"dt": dt}).open() for dt in (0.25, 0.5))
    np.testing.assert_array_equal(quick.time, 0.25 * np.arange(3))
    np.testing.assert_array_equal(quick.start_time, [7, 0])
    np.testing.assert_array_equal(slow.time, 0.5 * np.arange(T))
    assert (quick.sizes["trajectory"], slow.sizes["trajectory"]) == (2, 1)
    assert np.isfinite(quick.density).all()
