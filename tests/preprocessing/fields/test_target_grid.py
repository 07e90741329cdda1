from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from analytic_source import EVERYTHING, Analytic, analytic_fields, configuration

from pelagos.preprocessing.assumptions import collect
from pelagos.preprocessing.fields.field_options import FieldOptions
from pelagos.preprocessing.fields.target_grid import target_grid
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.sources import convention


def test_a_region_is_what_indexing_gives(tmp_path: Path) -> None:
    # Rows and columns are at 0, 0.125, ..., 0.875.
    found = analytic_fields(tmp_path, {"static": "varying"}, subset={"y": [0.25, 0.6], "x": [0.5, 2]})
    assert found.grid.y.tolist() == [0.25, 0.375, 0.5]
    assert found.grid.x.tolist() == [0.5, 0.625, 0.75, 0.875]
    assert (found.grid.boundary_y, found.grid.boundary_x) == (("open", "open"), ("open", "open"))
    values = Analytic().values("velocity_x")[..., 2:5, 4:]
    assert np.array_equal(found.read(*EVERYTHING)[:, :, 0], values)
    depth = Analytic().values("depth")[:, 0, 2:5, 4:]
    assert np.array_equal(found.read_static(slice(0, 6))[:, 0], depth)


@pytest.mark.parametrize(
    ("bounds", "columns", "longitudes"),
    [
        # Columns are at 0, 45, ..., 315 degrees.
        ([90, 200], [2, 3, 4], [90, 135, 180]),
        ([170, -80], [4, 5, 6], [180, 225, 270]),
        ([-90, 50], [6, 7, 0, 1], [-90, -45, 0, 45]),
        ([270, 410], [6, 7, 0, 1], [270, 315, 360, 405]),
        ([-180, 180], [4, 5, 6, 7, 0, 1, 2, 3], [-180, -135, -90, -45, 0, 45, 90, 135]),
    ],
)
def test_longitudes_run_from_west_to_east_across_any_seam(
    tmp_path: Path, bounds: list[float], columns: list[int], longitudes: list[float]
) -> None:
    source = {"latlon": True, "dates": True}
    found = analytic_fields(tmp_path, source, subset={"x": bounds}, forcings=["cos_local_time"])
    assert found.grid.x.tolist() == longitudes
    assert found.grid.periodic[1] is (len(columns) == 8)
    assert found.grid.boundary_y == ("pole", "pole")
    block = found.read(*EVERYTHING)
    assert np.array_equal(block[:, :, 0], Analytic(**source).values("velocity_x")[..., columns])
    whole = analytic_fields(tmp_path, source, forcings=["cos_local_time"]).read(*EVERYTHING)
    assert block[:, :, 2] == pytest.approx(whole[:, :, 2][..., columns], abs=1e-6)


def test_steps_are_made_one_after_the_other(tmp_path: Path) -> None:
    # Columns across the seam, then means of 2 x 2 of them.
    source = {"latlon": True}
    options = configuration(tmp_path, source, subset={"x": [-90, 89]}, coarsen=2)
    ds, target = target_grid(Analytic(**source).open(), options)
    assert ds.sizes["x"] == 8, "both ends of the axis are read"
    frame = np.broadcast_to(np.arange(8.0), (8, 8))
    assert target(frame)[0].tolist() == [6.5, 0.5]
    assert target.grid.x.tolist() == [-67.5, 22.5]
    assert target.grid.shape == (4, 2)


def test_a_grid_that_is_taken_as_it_is_needs_no_steps(tmp_path: Path) -> None:
    ds, target = target_grid(Analytic().open(), configuration(tmp_path))
    frame = np.zeros((8, 8), np.float32)
    assert target.steps == ()
    assert target(frame) is frame
    assert target.grid.shape == (ds.sizes["y"], ds.sizes["x"])


def test_coarse_cells_of_uneven_axes_are_said_to_differ_from_their_blocks() -> None:
    for y, told in ((np.linspace(0, 1, 8), False), (np.arange(8.0) ** 2, True)):
        grid = Grid("cartesian", y, np.arange(4.0), ("wall", "wall"), ("wall", "wall"))
        field = xr.Variable(
            convention.TIME_DIMS, np.zeros((1, 1, 8, 4)), {"units": "1", "role": "prognostic"}
        )
        ds = convention.assemble(
            {"u": field},
            grid=grid,
            time=np.zeros(1),
            dataset="made",
            source_format="test",
            sources=(),
            num_trajectories=1,
        )
        with collect() as assumed:
            target_grid(ds, FieldOptions(coarsen=2))
        assert [one.code for one in assumed.all] == ["regridded"] * told
