"""Regridding of cells anywhere on the sphere to latitudes and longitudes, by one sparse matrix.

Conservative where it is known what each cell covers: each box has the mean of the cells in it, by the areas that they
share. Elsewhere from the nearest point, or linearly from the three around.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from pelagos.preprocessing.array_types import Floats
from pelagos.preprocessing.assumptions import assume
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.fields.cell_overlaps import overlap_areas
from pelagos.preprocessing.fields.regrid import Regrid, middles, points_of
from pelagos.preprocessing.fields.scattered_weights import linear_weights, nearest_weights
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.sources.cells import Cells, on_sphere

Bounds = tuple[float, float]
_NOTHING = 1e-9  # share of a box below which an overlap is rounding
_GLOBE = Grid(
    "latlon",
    np.arange(-89.5, 90),
    np.arange(0.5, 360),
    ("pole", "pole"),
    ("periodic", "periodic"),
    "degrees",
)


@dataclass(frozen=True, eq=False)
class CellRegridder:
    """A linear map of cells to boxes of latitude and longitude, averaging over the values that are not NaN.

    Attributes:
        grid: the grid (H, W) of the boxes.
        weights: (H * W, N) sparse weights.
        whole: (H * W,) the weight of a box all of which has values.
        coverage: a result is missing unless more than this share of its weight has values.
    """

    grid: Grid
    weights: Any
    whole: Floats
    coverage: float

    def __call__(self, values: NDArray[Any]) -> Floats:
        """One frame, of N values in any shape, to (H, W)."""
        frame = values.astype(np.float64).ravel()
        known = ~np.isnan(frame)
        weight = self.weights @ known.astype(np.float64)
        result = np.full(len(weight), np.nan)
        enough = weight > max(self.coverage, _NOTHING) * self.whole
        np.divide(self.weights @ np.where(known, frame, 0), weight, out=result, where=enough)
        return result.reshape(self.grid.shape)

    @property
    def digest(self) -> str:
        """A digest of the weights, by which two builds can tell that they moved values alike."""
        parts = (self.weights.indptr, self.weights.indices, self.weights.data)
        content = b"".join(
            np.ascontiguousarray(part).astype(f"<{part.dtype.kind}8").tobytes() for part in parts
        )
        return hashlib.sha256(content).hexdigest()


def propose_rows(cells: Cells) -> int:
    """The number of rows of latitude, pole to pole, whose boxes at the equator are about as large as the cells."""
    spacing = np.sqrt(4 * np.pi / len(cells.latitude)) if covers_globe(cells) else _spacing(cells)
    return max(2, round(np.pi / float(spacing)))


def regrid_cells(
    options: Regrid, cells: Cells, label: str, rows: Bounds | None = None, columns: Bounds | None = None
) -> CellRegridder:
    """The map from cells to the grid that the options name.

    Args:
        options: the grid and the method.
        cells: of the source.
        label: of the dataset, for messages.
        rows: smallest and largest latitude of the domain that `shape` divides; that of the cells by default.
        columns: western and eastern longitude of the domain.

    Raises:
        ConfigError: the method needs what is not known of the cells, or a point lies on no latitude.
    """
    if options.method == "bilinear":
        raise ConfigError(
            f"regrid.method: bilinear is for rows and columns; linear is right for the {cells.kind} here"
        )
    if options.method == "conservative" and not cells.has_areas:
        raise ConfigError(
            f"regrid.method: conservative needs the corners of cells, which {label} does not give for its {cells.kind};"
            " linear or nearest would be right"
        )
    grid = _target(options, cells, rows, columns)
    if options.method == "conservative":
        weights = overlap_areas(cells, *grid.edges)
        sines, degrees = np.sin(np.deg2rad(grid.edges[0])), grid.edges[1]
        whole = np.abs(np.outer(np.diff(sines), np.diff(degrees))).ravel()
    else:
        north, east = (axis.ravel() for axis in np.meshgrid(grid.y, grid.x, indexing="ij"))
        method = nearest_weights if options.method == "nearest" else linear_weights
        weights = method(on_sphere(cells.latitude, cells.longitude), on_sphere(north, east))
        whole = np.asarray(weights.sum(axis=1)).ravel()
    regridder = CellRegridder(grid, weights, whole, options.coverage)
    _say(regridder, options, cells, label)
    return regridder


def _say(regridder: CellRegridder, options: Regrid, cells: Cells, label: str) -> None:
    """Record what was done to the values, and where none are."""
    height, width = regridder.grid.shape
    empty = int(
        np.count_nonzero(np.asarray(regridder.weights.sum(axis=1)).ravel() <= _NOTHING * regridder.whole)
    )
    beyond = f"; {empty} of these lie outside the cells and are missing" if empty else ""
    assume(
        "regridded",
        "",
        f"{label}: {len(cells.latitude)} {cells.kind} became {height} x {width} latitudes and longitudes by"
        f" {options.method} weights ({regridder.weights.nnz} of them, sha256 {regridder.digest[:16]}){beyond}",
    )


def _target(options: Regrid, cells: Cells, rows: Bounds | None, columns: Bounds | None) -> Grid:
    if options.shape is None:
        y, x = points_of(options.y), points_of(options.x)
        if np.abs(y).max() > 90:
            raise ConfigError(
                f"regrid.y: {y[np.abs(y).argmax()]:g} is no latitude; they reach from -90 to 90 degrees"
            )
        if np.ptp(x) >= 360:
            raise ConfigError(f"regrid.x: {x.min():g} to {x.max():g} goes round the Earth more than once")
    else:
        latitudes, longitudes = _box(cells)
        if rows:
            latitudes = min(rows), max(rows)
        if columns:
            longitudes = columns[0], columns[0] + ((columns[1] - columns[0]) % 360 or 360)
        y, x = (
            middles(np.array(one), num)
            for one, num in zip((latitudes, longitudes), options.shape, strict=True)
        )
    return _GLOBE.with_axes(y, x)


def _box(cells: Cells) -> tuple[Bounds, Bounds]:
    """The outermost latitudes and longitudes of all cells."""
    if covers_globe(cells):
        return (-90.0, 90.0), (0.0, 360.0)
    latitude, longitude = (cells.latitude, cells.longitude) if cells.corners is None else cells.corners
    # The widest gap between longitudes is outside.
    east = np.unique(longitude % 360)
    gaps = np.diff(east, append=east[0] + 360)
    widest = int(gaps.argmax())
    west = float(east[(widest + 1) % len(east)])
    return (float(latitude.min()), float(latitude.max())), (west, west + 360 - float(gaps[widest]))


def covers_globe(cells: Cells) -> bool:
    """Whether the cells lie all around the sphere."""
    if cells.healpix is not None:
        return True
    # Evenly spread points of Fibonacci: each has a cell as near as cells are that share the sphere.
    num = 1000
    steps = np.arange(num) + 0.5
    places = on_sphere(np.rad2deg(np.arcsin(1 - 2 * steps / num)), np.rad2deg(np.pi * (1 + 5**0.5) * steps))
    from_cells = KDTree(on_sphere(cells.latitude, cells.longitude)).query(places)[0]
    return bool(from_cells.max() < 4 * np.sqrt(4 * np.pi / len(cells.latitude)))


def _spacing(cells: Cells) -> float:
    """The median distance between neighbours, in radians."""
    points = on_sphere(cells.latitude, cells.longitude)
    return float(np.median(KDTree(points).query(points, k=min(4, len(points)))[0][:, -1]))
