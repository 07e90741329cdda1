from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from analytic_source import Analytic, configuration
from scipy.sparse import csr_array

from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.build.repair import repair
from pelagos.preprocessing.sources.healpix import Healpix
from pelagos.preprocessing.store.manifest import verify
from pelagos.preprocessing.store.store import open_store


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


def test_the_weights_by_which_cells_were_moved_are_kept(tmp_path: Path) -> None:
    pixels = Healpix(4, nested=True)
    values = np.random.default_rng(0).normal(size=(10, pixels.size)).astype(np.float32)
    ds = xr.Dataset({"t": (("time", "cell"), values)}, {"time": np.arange(10.0)})
    ds.to_netcdf(tmp_path / "sky.nc", engine="h5netcdf")
    source = {"kind": "cf", "paths": str(tmp_path / "sky.nc"), "cells": "healpix_nested"}
    options = {"dataset": "sky", "source": source, "root": tmp_path / "stores", "regrid": {"shape": [6, 12]}}
    path = build(BuildConfig.model_validate(options))
    store, group = open_store(path), zarr.open_group(path, mode="r")
    start, cell, weight = (np.asarray(group[f"regrid/{name}"]) for name in ("start", "cell", "weight"))
    weights = csr_array((weight, cell, start), (72, pixels.size))
    moved = (weights @ values[3].astype(np.float64)) / weights.sum(axis=1)
    assert store.read(0, 3, 4)[0, 0].ravel() == pytest.approx(moved, rel=1e-6)
    assert store.grid.kind == "latlon"
    assert "by conservative weights" in str(group.attrs["assumptions"])
    assert verify(path) == []
    (path / "regrid/weight/c/0").unlink()
    assert len(verify(path)) == 1
    repair(path)
    assert verify(path, sha256=True) == []
