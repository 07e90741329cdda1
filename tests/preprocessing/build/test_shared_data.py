"""Every real file at hand builds, verifies and holds what h5py, xarray, SciPy, NumPy or torch read from it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
import torch
import xarray as xr
import yaml

from pelagos.pipeline.runs import configuration
from pelagos.pipeline.stages.build import BuildStage
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.store.manifest import verify
from pelagos.preprocessing.store.store import Store, open_store

Values = dict[str, Any]


def of_torch(path: Path, **names: str) -> Values:
    tensors = torch.load(path, weights_only=True)
    return {name: tensors[key].numpy() for name, key in names.items()}


def of_xarray(*paths: Path, engine: str = "h5netcdf") -> Values:
    values: Values = {}
    for path in paths:
        with xr.open_dataset(path, engine=engine, decode_times=False) as ds:
            for name, field in ds.data_vars.items():
                for level in field.level.values if "level" in field.dims else [None]:
                    key = str(name) if level is None else f"{name}@{level:g}"
                    values[key] = (field if level is None else field.sel(level=level)).values[None]
    return values


def darcy(data: Path) -> Values:
    held = of_torch(data / "pde/neuralop/darcy_train_16.pt", solution="y", permeability="x")
    return held | {"solution": held["solution"][:, None]}


def diffusion_reaction(data: Path) -> Values:
    with h5py.File(data / "pde/pdebench_2D_diff-react_48x48_T26_N12.h5") as file:
        fields = np.stack([file[seed]["data"][()] for seed in sorted(file)])
    return {"activator": fields[..., 0], "inhibitor": fields[..., 1]}


def the_well(data: Path) -> Values:
    with h5py.File(data / "pde/the_well_dummy_schema.hdf5") as file:
        field = file["t1_fields/field"][()].swapaxes(2, 3)
        scalar = file["scalars/time_varying_scalar"][()]
        constant = file["t0_fields/constant_field"][()].swapaxes(-1, -2)
    values = {"field_x": field[..., 0], "field_y": field[..., 1], "constant_field": constant}
    return values | {"time_varying_scalar": np.broadcast_to(scalar[..., None, None], field.shape[:-1])}


def wfde5(data: Path) -> Values:
    values = {}
    for path in (data / "weather/wfde5").iterdir():
        (values[path.stem],) = of_xarray(path).values()
    return values


def kolmogorov(part: str) -> Callable[[Path], Values]:
    return lambda data: {
        "clockwise_vorticity": np.load(data / f"pde/2d_phy_kolm_flow_{part}.npy")[:, :, 0].swapaxes(-1, -2)
    }


def reference(name: str, key: str) -> Callable[[Path], Values]:
    return lambda data: {"u": scipy.io.loadmat(data / f"pde/mat/{name}.mat")[key].T[None, :, None]}


def anemoi(data: Path) -> Values:
    """The hourly netCDF file at the times of the store."""
    with xr.open_dataset(data / "weather/era5_2t_uk_hourly_2019-03.nc", engine="h5netcdf") as ds:
        return {"2t": ds.t2m.values[None, ::6]}


def era_interim(data: Path) -> Values:
    with pytest.warns(xr.SerializationWarning, match="_FillValue"):
        held = of_xarray(data / "weather/eraint_uvz.nc", engine="scipy")
    names = {"z": "geopotential", "u": "eastward_wind", "v": "northward_wind"}
    return {names[key.split("@")[0]] + "@" + key.split("@")[1]: value for key, value in held.items()}


def credit(*names: str, engine: str = "scipy") -> Callable[[Path], Values]:
    return lambda data: of_xarray(*(data / "weather/credit" / name for name in names), engine=engine)


INDEX: dict[str, tuple[dict[str, Any], Callable[[Path], Values]]] = {
    "darcy": (
        {"kind": "neuralop", "paths": "pde/neuralop/darcy_train_16.pt"},
        darcy,
    ),
    "burgers": (
        {"kind": "neuralop", "paths": "pde/neuralop/burgers_train_16.pt"},
        lambda data: {"u": of_torch(data / "pde/neuralop/burgers_train_16.pt", y="y")["y"][:, :, None]},
    ),
    "diffusion_reaction": (
        {"kind": "pdebench", "paths": "pde/pdebench_2D_diff-react_48x48_T26_N12.h5", "problem": "diff-react"},
        diffusion_reaction,
    ),
    "the_well": ({"kind": "the_well", "paths": "pde/the_well_dummy_schema.hdf5"}, the_well),
    "torch_cfd": (
        {
            "kind": "torch_cfd",
            "paths": "pde/torchcfd_fnodata_64x64_N12_v1e-3_T20.pt",
            "dt": 1,
            "length": 1,
        },
        lambda data: of_torch(
            data / "pde/torchcfd_fnodata_64x64_N12_v1e-3_T20.pt",
            vorticity="vorticity",
            stream_function="stream",
        ),
    ),
    "kolmogorov_train": (
        {"kind": "apebench", "paths": "pde/2d_phy_kolm_flow_train.npy", "dt": 0.1, "length": 6.25},
        kolmogorov("train"),
    ),
    "kolmogorov_test": (
        {"kind": "apebench", "paths": "pde/2d_phy_kolm_flow_test.npy", "dt": 0.1, "length": 6.25},
        kolmogorov("test"),
    ),
    "burgers_shock": (
        {"kind": "fno", "paths": "pde/mat/burgers_shock.mat", "boundary": "wall"},
        reference("burgers_shock", "usol"),
    ),
    "korteweg_de_vries": (
        {"kind": "fno", "paths": "pde/mat/pinns_KdV.mat", "boundary": "periodic"},
        reference("pinns_KdV", "uu"),
    ),
    "era5": (
        {"kind": "cf", "paths": "weather/era5_2t_uk_hourly_2019-03.nc"},
        lambda data: of_xarray(data / "weather/era5_2t_uk_hourly_2019-03.nc"),
    ),
    "wfde5": (
        {"kind": "cf", "paths": "weather/wfde5/*.nc"},
        wfde5,
    ),
    "era_interim": ({"kind": "cf", "paths": "weather/eraint_uvz.nc", "axes": {"time": "month"}}, era_interim),
    "anemoi": ({"kind": "anemoi", "paths": "weather/anemoi_uk2t.zarr"}, anemoi),
    "credit": (
        {"kind": "credit", "paths": "weather/credit/era5.?d.198001.nc"},
        credit("era5.2d.198001.nc", "era5.3d.198001.nc"),
    ),
    "conus404": (
        {"kind": "credit", "paths": "weather/credit/conus404.*.nc"},
        credit("conus404.2d.198001.nc", "conus404.static.nc"),
    ),
    "credit_sample": (
        {"kind": "credit", "paths": "weather/credit/test_interp.nc"},
        credit("test_interp.nc", engine="h5netcdf"),
    ),
}
REFUSED = {"mean_6h_1979_2018_16lev_0.25deg.nc": "which dimension is y and which x"}


@pytest.fixture
def data(shared: Path) -> Path:
    return shared / "data"


def test_the_index_names_every_file(data: Path) -> None:
    named = {file for source, _ in INDEX.values() for file in data.glob(source["paths"])}
    named |= set(data.glob("weather/anemoi_uk2t.zarr/**/*"))
    files = {file for file in data.rglob("*") if file.is_file()}
    assert {file.name for file in files - named} == set(REFUSED)


def built(data: Path, name: str, root: Path) -> Store:
    source = {**INDEX[name][0], "paths": str(data / INDEX[name][0]["paths"])}
    path = build(
        BuildConfig.model_validate({"dataset": name, "source": source, "root": root, "missing": "keep"})
    )
    assert verify(path) == []
    return open_store(path)


@pytest.mark.parametrize("name", INDEX)
def test_a_store_holds_what_the_file_holds(data: Path, name: str, tmp_path: Path) -> None:
    store = built(data, name, tmp_path)
    with_time = np.stack([store.read(i, 0, store.num_times) for i in range(store.num_trajectories)])
    static = np.stack([store.static(i) for i in range(store.num_trajectories)])
    held = {variable.key: with_time[:, :, i] for i, variable in enumerate(store.variables)}
    held |= {variable.key: static[:, i] for i, variable in enumerate(store.static_variables)}
    expected = INDEX[name][1](data)
    for key, values in held.items():
        np.testing.assert_array_equal(values, expected[key].astype(np.float32), err_msg=key)


@pytest.mark.parametrize("name", REFUSED)
def test_files_of_statistics_are_refused(data: Path, name: str, tmp_path: Path) -> None:
    source = {"kind": "credit", "paths": str(data / "weather/credit" / name)}
    with pytest.raises(DataError, match=REFUSED[name]):
        build(BuildConfig.model_validate({"dataset": "means", "source": source, "root": tmp_path}))


def test_the_sea_of_wfde5_counts_in_no_statistics(data: Path, tmp_path: Path) -> None:
    store = built(data, "wfde5", tmp_path)
    number = [variable.key for variable in store.variables].index("air_temperature")
    with xr.open_dataset(data / "weather/wfde5/air_temperature.nc", engine="h5netcdf") as ds:
        (field,) = ds.data_vars.values()
        assert np.isnan(field).any()
        expected = field.astype(float)
        np.testing.assert_allclose(store.stats.mean[number], expected.mean(), rtol=1e-6)
        np.testing.assert_allclose(store.stats.std[number], expected.std(), rtol=1e-5)
        np.testing.assert_array_equal(
            store.mask[number], np.isfinite(field.values).any(axis=field.get_axis_num("time"))
        )


SHIPPED = {
    "kolmogorov": "pde/2d_phy_kolm_flow_train.npy",
    "torch_cfd": "pde/torchcfd_fnodata_64x64_N12_v1e-3_T20.pt",
    "reference_solution": "pde/mat/burgers_shock.mat",
    "anemoi": "weather/anemoi_uk2t.zarr",
    "credit": "weather/credit/test_interp.nc",
    "era5": "weather/era5_2t_uk_hourly_2019-03.nc",
}


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_configurations_build_the_files_that_they_are_for(
    data: Path, name: str, tmp_path: Path
) -> None:
    overrides = [
        f"source.paths={yaml.safe_dump(str(data / SHIPPED[name])).splitlines()[0]}",
        f"root={tmp_path}",
    ]
    config = configuration.load(f"build/{name}", overrides, BuildStage)
    store = open_store(build(BuildConfig.model_validate(config.model_dump(exclude={"command"}))))
    assert store.splits["train"].any()
    assert store.splits["test"].any()
