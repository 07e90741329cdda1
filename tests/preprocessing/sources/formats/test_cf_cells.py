"""Files whose points lie in no rows of latitude: cells in one dimension, HEALPix, reduced and projected grids."""

from pathlib import Path
from typing import Any

import eccodes
import numpy as np
import pytest
import xarray as xr

from pelagos.preprocessing.array_types import Floats
from pelagos.preprocessing.assumptions import collect
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.fields.field_options import FieldOptions
from pelagos.preprocessing.fields.field_reader import FieldReader
from pelagos.preprocessing.fields.regrid import Regrid
from pelagos.preprocessing.fields.select_fields import select_fields
from pelagos.preprocessing.sources.cells import cells_of
from pelagos.preprocessing.sources.formats.cf import CF
from pelagos.preprocessing.sources.formats.grib import GRIB
from pelagos.preprocessing.sources.formats.map_projection import MapProjection
from pelagos.preprocessing.sources.formats.plane_geometry import GEOMETRY
from pelagos.preprocessing.sources.healpix import Healpix

DAYS = np.array(["2020-01-01", "2020-01-02"], "M8[ns]")


def field(latitude: Floats, longitude: Floats) -> Floats:
    north, east = np.deg2rad(latitude), np.deg2rad(longitude)
    return np.asarray(280 + 20 * np.sin(north) + 10 * np.cos(north) * np.cos(east))


def written(ds: xr.Dataset, path: Path) -> str:
    ds.to_netcdf(path, engine="h5netcdf")
    return str(path)


def mesh(path: Path, nside: int = 8, **more: Any) -> str:
    """A file like ICON's: fields of (time, height, ncells), centres in radians, named by `coordinates`."""
    latitude, longitude = Healpix(nside, nested=True).centres()
    order = np.random.default_rng(0).permutation(len(latitude))  # so that it is no known grid
    latitude, longitude = latitude[order], longitude[order]
    values = np.stack([field(latitude, longitude) + day for day in range(2)])[:, None]
    coordinates = {"coordinates": "clat clon"}
    ds = xr.Dataset(
        {
            "ta": (("time", "height", "ncells"), values.repeat(2, axis=1), {"units": "K"} | coordinates),
            "tas": (("time", "ncells"), values[:, 0], {"units": "K"} | coordinates),
            "orog": (("ncells",), latitude, {"units": "m"}),
            "neighbours": (("nv", "ncells"), np.zeros((3, len(latitude)), np.int32)),
        },
        {
            "time": DAYS,
            "height": ("height", [10.0, 100.0], {"standard_name": "height", "units": "m"}),
            "clat": ("ncells", np.deg2rad(latitude), {"standard_name": "latitude", "units": "radian"} | more),
            "clon": ("ncells", np.deg2rad(longitude), {"standard_name": "longitude", "units": "radian"}),
        },
    )
    return written(ds, path)


def fields_of(source: Any, **regrid: Any) -> FieldReader:
    return select_fields(source.open(), FieldOptions(regrid=Regrid(**regrid)))


def everything(fields: FieldReader) -> Any:
    return fields.read(slice(0, fields.num_trajectories), slice(0, len(fields.axis)))


def wanted(fields: FieldReader) -> Floats:
    north, east = np.meshgrid(fields.grid.y, fields.grid.x, indexing="ij")
    return field(north, east)


def test_cells_of_one_dimension_become_latitudes_and_longitudes(tmp_path: Path) -> None:
    source = CF(paths=mesh(tmp_path / "icon.nc"), axes={"level": "height"})
    ds = source.open()
    assert (ds.attrs["grid"], ds.sizes["y"], ds.sizes["x"]) == ("cells", 1, 768)
    assert set(ds.data_vars) == {"ta", "tas", "orog"}
    assert "neighbours" in ds.attrs["not_read"]
    fields = fields_of(source, method="linear", shape=(12, 24))
    values = everything(fields)
    assert [channel.variable.key for channel in fields.state] == ["ta@10", "ta@100", "tas"]
    assert np.abs(values[0, :, :, :, :] - wanted(fields) - np.arange(2)[:, None, None, None]).max() < 0.4
    assert np.abs(fields.read_static(slice(0, 1))[0, 0] - fields.grid.y[:, None]).max() < 2
    assert fields.grid.kind == "latlon"


def test_a_store_needs_rows_so_the_grid_is_asked_for(tmp_path: Path) -> None:
    ds = CF(paths=mesh(tmp_path / "icon.nc"), variables=("tas",)).open()
    with pytest.raises(
        ConfigError, match=r"768 cells in no rows.*regrid: \{shape: \[25, 50\], method: linear\}"
    ):
        select_fields(ds, FieldOptions())
    with pytest.raises(ConfigError, match="conservative needs the corners of cells"):
        select_fields(ds, FieldOptions(regrid=Regrid(shape=(4, 8))))


def test_bounds_make_the_conservative_method_possible(tmp_path: Path) -> None:
    """Two rows of triangles from the equator to the poles: each is an eighth of the sphere."""
    corners = [[(0, 90 * i), (0, 90 * i + 90), (pole, 90 * i)] for i in range(4) for pole in (90, -90)]
    bounds = np.deg2rad(np.array(corners, np.float64))
    ds = xr.Dataset(
        {
            "q": (("time", "cell"), np.arange(16.0).reshape(2, 8), {"units": "1"}),
            "clat_bnds": (("cell", "nv"), bounds[..., 0]),
            "clon_bnds": (("cell", "nv"), bounds[..., 1]),
        },
        {
            "time": DAYS,
            "clat": ("cell", np.tile([0.6, -0.6], 4), {"units": "radian", "bounds": "clat_bnds"}),
            "clon": (
                "cell",
                np.repeat(np.pi * (np.arange(4) / 2 + 0.25), 2),
                {"units": "radian", "bounds": "clon_bnds"},
            ),
        },
    )
    fields = fields_of(CF(paths=written(ds, tmp_path / "a.nc")), shape=(4, 8))
    values = everything(fields)[0, :, 0]
    assert values[0, 0] == pytest.approx(np.repeat([1, 3, 5, 7], 2), rel=1e-6)
    assert values[1, -1] == pytest.approx(np.repeat([8, 10, 12, 14], 2), rel=1e-6)
    mean = (values * fields.grid.area_weights()).mean(axis=(1, 2))
    assert mean == pytest.approx([3.5, 11.5], rel=1e-7)  # float32


@pytest.mark.parametrize("nested", [False, True])
def test_healpix_is_known_by_its_grid_mapping_by_its_places_or_by_the_option(
    tmp_path: Path, nested: bool
) -> None:
    latitude, longitude = Healpix(8, nested=nested).centres()
    bare = xr.Dataset({"t": (("time", "cell"), np.stack([field(latitude, longitude)] * 2))}, {"time": DAYS})
    order = {"healpix_nside": 8, "healpix_order": "nest" if nested else "ring"}
    mapped = bare.assign(crs=((), 0, {"grid_mapping_name": "healpix"} | order))
    placed = bare.assign_coords(
        lat=("cell", latitude.astype(np.float32), {"units": "degrees_north"}),
        lon=("cell", longitude.astype(np.float32), {"units": "degrees_east"}),
    )
    kind: Any = "healpix_nested" if nested else "healpix_ring"
    sources = [
        CF(paths=written(mapped, tmp_path / "mapped.nc")),
        CF(paths=written(placed, tmp_path / "placed.nc")),
        CF(paths=written(bare, tmp_path / "bare.nc"), cells=kind),
    ]
    for source in sources:
        assert cells_of(source.open()).healpix == Healpix(8, nested=nested)
        fields = fields_of(source, shape=(12, 24))
        assert np.abs(everything(fields)[0, 0, 0] - wanted(fields)).max() < 2
        mean = (everything(fields)[0, 0, 0] * fields.grid.area_weights()).mean()
        assert mean == pytest.approx(field(latitude, longitude).mean(), rel=1e-6)
    with pytest.raises(
        DataError, match=r"the 768 cells along cell lie; .*nside 8, source.cells: healpix_nested or"
    ):
        CF(paths=written(bare, tmp_path / "again.nc")).open()


def test_healpix_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    ds = xr.Dataset({"t": (("time", "cell"), np.zeros((2, 48)))}, {"time": DAYS})
    for attrs, message in (
        (
            {"healpix_nside": 4, "healpix_order": "ring"},
            "cell has 48 pixels, but its grid mapping says nside 4",
        ),
        ({"healpix_nside": 2}, "in the order ''; nested or ring would be right"),
    ):
        mapped = ds.assign(crs=((), 0, {"grid_mapping_name": "healpix"} | attrs))
        with pytest.raises(DataError, match=message):
            CF(paths=written(mapped, tmp_path / f"{len(attrs)}.nc")).open()


def test_two_dimensional_coordinates_without_any_along_rows(tmp_path: Path) -> None:
    """WRF's layout: XLAT and XLONG repeated along time, dimensions without coordinates."""
    rows, columns = np.meshgrid(np.arange(20.0), np.arange(30.0), indexing="ij")
    latitude, longitude = 45 + 0.5 * rows + 0.02 * columns, 5 + 0.7 * columns - 0.03 * rows
    plane = ("south_north", "west_east")
    ds = xr.Dataset(
        {
            "T2": (("time", *plane), np.stack([field(latitude, longitude)] * 2), {"units": "K"}),
            "XLAT": (("time", *plane), np.stack([latitude] * 2), {"units": "degrees_north"}),
            "XLONG": (("time", *plane), np.stack([longitude] * 2), {"units": "degrees_east"}),
        },
        {"time": DAYS},
    )
    source = CF(paths=written(ds, tmp_path / "wrf.nc"))
    with collect() as found:
        opened = source.open()
    assert set(opened.data_vars) == {"T2", *GEOMETRY}
    assert opened.attrs["grid"] == "cartesian"
    assert opened.y[1] - opened.y[0] == pytest.approx(55.6e3, rel=1e-2)  # half a degree
    assert "grid" in [one.code for one in found.all]
    own = select_fields(opened, FieldOptions())
    assert everything(own)[0, 0, 0] == pytest.approx(field(latitude, longitude), rel=1e-6)
    moved = fields_of(source, to="latlon", method="linear", y=(48.0, 50), x=(10.0, 12, 14))
    assert np.abs(everything(moved)[0, 0, 0] - wanted(moved)).max() < 0.01
    drifting = ds.assign(XLAT=ds["XLAT"] + xr.DataArray([0.0, 1], dims="time"))
    drifting["XLAT"].attrs["units"] = "degrees_north"
    with pytest.raises(DataError, match="XLAT changes with time"):
        CF(paths=written(drifting, tmp_path / "drifting.nc")).open()


def test_a_file_with_coordinates_of_its_own_is_read_as_before_and_can_be_moved(tmp_path: Path) -> None:
    rows, columns = np.arange(10.0), np.arange(15.0)
    latitude, longitude = 45 + 0.5 * rows[:, None] + 0 * columns, 5 + 0.7 * columns + 0 * rows[:, None]
    ds = xr.Dataset(
        {"t": (("time", "y", "x"), np.stack([field(latitude, longitude)] * 2), {"coordinates": "lat lon"})},
        {"time": DAYS, "y": rows * 5e4, "x": columns * 5e4},
    ).assign(
        lat=(("y", "x"), latitude, {"units": "degrees_north"}),
        lon=(("y", "x"), longitude, {"units": "degrees_east"}),
    )
    source = CF(paths=written(ds, tmp_path / "a.nc"), boundary="open", grid="cartesian")
    fields = select_fields(source.open(), FieldOptions())
    assert fields.grid.y.tolist() == (rows * 5e4).tolist()
    moved = fields_of(source, to="latlon", method="nearest", y=(46.0, 47), x=(5.7, 7.1))
    assert everything(moved)[0, 0, 0] == pytest.approx(wanted(moved), rel=1e-6)


def grib(path: Path, sample: str, num: int = 0, **keys: Any) -> tuple[str, Floats, Floats]:
    """Two days of 2 m temperature on the grid of one of ecCodes' samples; its latitudes and longitudes."""
    with path.open("wb") as file:
        for day in (1, 2):
            handle = eccodes.codes_grib_new_from_samples(sample)
            own = {"dataDate": 20200100 + day, "dataTime": 0, "shortName": "t", "bitsPerValue": 24}
            for key, value in (own | keys).items():
                eccodes.codes_set(handle, key, value)
            if num:  # another grid than the sample's: its points exist once there are values for them
                eccodes.codes_set_values(handle, np.zeros(num))
            latitude, longitude = (
                eccodes.codes_get_array(handle, key) for key in ("latitudes", "longitudes")
            )
            eccodes.codes_set_values(handle, field(latitude, longitude))
            eccodes.codes_write(handle, file)
            eccodes.codes_release(handle)
    return str(path), latitude, longitude


def test_a_reduced_gaussian_grid_is_conserved(tmp_path: Path) -> None:
    path, latitude, _ = grib(tmp_path / "a.grib", "reduced_gg_pl_32_grib2")
    fields = fields_of(GRIB(paths=path), shape=(32, 64))
    values = everything(fields)[0, :, 0]
    assert np.abs(values - wanted(fields)).max() < 1
    cells = cells_of(GRIB(paths=path).open())
    assert cells.kind == "points of a reduced grid"
    assert len(cells.latitude) == len(latitude) == 6114
    # The mean of 20 sin(latitude) and of the wave is zero.
    assert (values * fields.grid.area_weights()).mean(axis=(1, 2)) == pytest.approx(280, abs=2e-3)


@pytest.mark.parametrize("nested", [False, True])
def test_messages_on_healpix_are_known_by_their_places(tmp_path: Path, nested: bool) -> None:
    order = {"orderingConvention": "nested" if nested else "ring", "longitudeOfFirstGridPointInDegrees": 45}
    path, _, _ = grib(tmp_path / "a.grib", "GRIB2", 192, gridType="healpix", Nside=4, **order)
    assert cells_of(GRIB(paths=path).open()).healpix == Healpix(4, nested=nested)
    fields = fields_of(GRIB(paths=path), shape=(6, 12))
    mean = (everything(fields)[0, 0, 0] * fields.grid.area_weights()).mean()
    assert mean == pytest.approx(280, abs=1e-3)


def test_messages_on_a_lambert_grid_keep_their_spacing_and_can_be_moved(tmp_path: Path) -> None:
    cone = {"LaDInDegrees": 50, "LoVInDegrees": 10, "Latin1InDegrees": 50, "Latin2InDegrees": 50}
    corner = {
        "latitudeOfFirstGridPointInDegrees": 45,
        "longitudeOfFirstGridPointInDegrees": 5,
        "jScansPositively": 1,
    }
    size = {"Nx": 30, "Ny": 25, "DxInMetres": 40_000, "DyInMetres": 30_000}
    path, _, _ = grib(tmp_path / "a.grib", "GRIB2", 750, gridType="lambert", **size, **cone, **corner)
    own = select_fields(GRIB(paths=path).open(), FieldOptions())
    assert own.grid.spacing == (30_000.0, 40_000.0)
    assert own.grid.y[1] > own.grid.y[0]  # rows run northwards
    assert [channel.variable.name for channel in own.static] == list(GEOMETRY)
    moved = fields_of(GRIB(paths=path), to="latlon", y=(48.0, 49), x=(9.0, 11))
    assert np.abs(everything(moved)[0, 0, 0] - wanted(moved)).max() < 0.05


@pytest.mark.parametrize("sample", ["polar_stereographic_sfc_grib2", "rotated_ll_sfc_grib2"])
def test_projected_grids_are_read_in_their_own_rows_or_moved(tmp_path: Path, sample: str) -> None:
    polar = {"DxInMetres": 50_000, "DyInMetres": 40_000, "orientationOfTheGridInDegrees": 10}
    keys = polar if sample.startswith("polar") else {"latitudeOfSouthernPoleInDegrees": -40}
    path, latitude, longitude = grib(tmp_path / "a.grib", sample, **keys)
    source = GRIB(paths=path)
    fields = select_fields(source.open(), FieldOptions())
    assert fields.grid.kind == "cartesian"
    assert fields.grid.units == "m"
    assert everything(fields)[0, 0, 0].ravel() == pytest.approx(field(latitude, longitude), abs=1e-3)
    middle = len(latitude) // 2 + 8
    y, x = ((float(one[middle]), float(one[middle]) + 0.5) for one in (latitude, longitude))
    moved = fields_of(source, to="latlon", method="linear", y=y, x=x)
    assert np.abs(everything(moved)[0, 0, 0] - wanted(moved)).max() < 0.05


def test_spherical_harmonics_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.grib"
    with path.open("wb") as file:
        handle = eccodes.codes_grib_new_from_samples("sh_ml_grib2")
        eccodes.codes_set(handle, "shortName", "t")
        eccodes.codes_write(handle, file)
        eccodes.codes_release(handle)
    with pytest.raises(DataError, match="spherical harmonics up to wavenumber 63"):
        GRIB(paths=str(path)).open()


def test_rows_and_columns_in_metres_are_placed_by_the_grid_mapping(tmp_path: Path) -> None:
    """A Lambert grid without two-dimensional coordinates, its axes in kilometres."""
    mapping = {
        "grid_mapping_name": "lambert_conformal_conic",
        "standard_parallel": 48.0,
        "latitude_of_projection_origin": 48.0,
        "longitude_of_central_meridian": 8.0,
        "earth_radius": 6371229.0,
    }
    projection = MapProjection.of(mapping)
    assert projection is not None
    y, x = np.arange(-400.0, 401, 40), np.arange(-600.0, 601, 50)
    latitude, longitude = projection.inverse(*np.meshgrid(1e3 * x, 1e3 * y))
    axes = {
        axis: (axis, values, {"units": "km", "standard_name": f"projection_{axis}_coordinate"})
        for axis, values in (("y", y), ("x", x))
    }
    values = np.stack([field(latitude, longitude)] * 2)
    ds = xr.Dataset({"t": (("time", "y", "x"), values, {"units": "K"})}, {"time": DAYS, **axes})
    source = CF(paths=written(ds.assign(crs=((), 0, mapping)), tmp_path / "a.nc"))
    assert set(source.open()) == {"t"}
    moved = fields_of(source, to="latlon", method="linear", y=(46.0, 48, 50), x=(4.0, 8, 12))
    assert np.abs(everything(moved)[0, 0, 0] - wanted(moved)).max() < 0.01
    area = fields_of(
        source.model_copy(update={"geometry": ("cell_area",)}),
        to="latlon",
        method="nearest",
        y=(48.0, 49),
        x=(8.0, 9),
    )
    assert area.read_static(slice(0, 1))[0, 0, 0, 0] == pytest.approx(40e3 * 50e3, rel=2e-3)
    other = ds.assign(crs=((), 0, {"grid_mapping_name": "transverse_mercator"}))
    with pytest.raises(ConfigError, match=r"latitudes and longitudes .* lambert_conformal_conic, polar_ster"):
        fields_of(CF(paths=written(other, tmp_path / "b.nc")), to="latlon", y=(46.0, 48), x=(4.0, 8))
    bare = ds.assign(crs=((), 0, {key: one for key, one in mapping.items() if key != "standard_parallel"}))
    with pytest.raises(DataError, match=r"c\.nc: its grid mapping lambert_conformal_conic lacks parameters"):
        CF(paths=written(bare, tmp_path / "c.nc")).open()


@pytest.mark.parametrize("names", [("y", "x"), ("yc", "xc")])
def test_a_plane_map_is_known_not_to_go_round_without_standard_names(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    """Sea ice on a polar stereographic map, whose axes say only their unit."""
    axes = {name: (name, 25.0 * np.arange(6), {"units": "km", "axis": name[0].upper()}) for name in names}
    ice = xr.Variable(("time", *names), np.random.default_rng(0).random((2, 6, 6)), {"units": "1"})
    mapping = {
        "grid_mapping_name": "polar_stereographic",
        "latitude_of_projection_origin": 90.0,
        "straight_vertical_longitude_from_pole": -45.0,
        "standard_parallel": 70.0,
        "earth_radius": 6371229.0,
    }
    ds = xr.Dataset({"ice": ice, "crs": ((), 0, mapping)}, {"time": DAYS, **axes})
    with collect() as assumed:
        found = CF(paths=written(ds, tmp_path / "a.nc")).open()
    assert found.attrs["boundary_x"] == found.attrs["boundary_y"] == "open,open"
    assert not any(one.question for one in assumed.all)
    with collect() as assumed:  # a map of Mercator may go round
        CF(paths=written(ds.assign(crs=((), 0, {"grid_mapping_name": "mercator"})), tmp_path / "b.nc")).open()
    assert [one.code for one in assumed.all if one.question] == ["boundary"]


def test_cells_may_lie_in_a_grid_file(tmp_path: Path) -> None:
    """ICON's data without coordinates: cells, edges and vertices lie in another file."""
    with xr.open_dataset(mesh(tmp_path / "both.nc"), engine="h5netcdf") as both:
        both = both.load()
    data = both.drop_vars(["clat", "clon", "neighbours"]).assign_attrs(uuidOfHGrid="a")
    for one in data.variables.values():
        one.encoding.pop("coordinates", None)
        one.attrs.pop("coordinates", None)
    grid = xr.Dataset(
        {
            "vlat": ("vertex", np.zeros(400), {"units": "radian"}),
            "vlon": ("vertex", np.zeros(400), {"units": "radian"}),
            "clat": ("cell", both.clat.values, {"units": "radian"}),
            "clon": ("cell", both.clon.values, {"units": "radian"}),
        }
    )
    paths = written(data, tmp_path / "data.nc")
    with pytest.raises(DataError, match=r"nothing says where the 768 cells .* source\.grid_file"):
        CF(paths=paths, variables=("tas",)).open()
    file = written(grid.assign_attrs(uuidOfHGrid="a"), tmp_path / "grid.nc")
    regrid: dict[str, Any] = {"method": "linear", "shape": (12, 24)}
    found = fields_of(CF(paths=paths, variables=("tas",), grid_file=file), **regrid)
    alone = fields_of(CF(paths=str(tmp_path / "both.nc"), variables=("tas",)), **regrid)
    np.testing.assert_array_equal(everything(found), everything(alone))
    for other, message in (
        (grid.assign_attrs(uuidOfHGrid="b"), "data.nc is on the grid a, and .*wrong.nc holds b"),
        (grid.isel(cell=slice(7)), "7 along cell, 400 along vertex"),
    ):
        wrong = written(other, tmp_path / "wrong.nc")
        with pytest.raises(DataError, match=message):
            CF(paths=paths, grid_file=wrong).open()
