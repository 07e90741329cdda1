"""Overlaps of cells on the sphere with boxes of latitude and longitude: the weights of conservative regridding.

Cells are cut in planes in which areas are areas on the sphere and the sides of boxes are straight lines: longitude
against the sine of latitude; and for the polar caps of HEALPix Górski's plane (2005, ApJ 622, 759, section 5), in which
meridians meet in one point. Sides along great circles are followed by short straight lines, the same ones on both
sides, so that no area is lost or counted twice.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from pelagos.preprocessing.array_types import Floats
from pelagos.preprocessing.sources.cells import Cells
from pelagos.preprocessing.sources.healpix import Healpix

Ints = NDArray[np.int64]
_PIECES = 100_000  # parts of cells that are cut at a time: more would only take memory


_NO = np.empty(0)


@dataclass(frozen=True, eq=False)
class Polygons:
    """Polygons (M, V, 2) in one of the planes, with their numbers of corners (M,).

    Attributes:
        source: (M,) the cell that each is a part of.
        points: (M, V, 2) corners in order: eastwards p [degrees], and q; beyond the last the first one repeats.
        count: (M,) how many corners there are.
        middle: (M,) the longitude at p = 0.
        cap: +1 or -1 in the plane of a polar cap, where p = q * degrees east of the middle and q = 0 at
            the pole; 0 in the plane of the sine of latitude.
    """

    source: Ints
    points: Floats
    count: Ints
    middle: Floats
    cap: int

    @property
    def factor(self) -> float:
        """Degrees of longitude times sine of latitude in a unit of area of the plane."""
        return 2 / 3 if self.cap else 1.0

    def row_lines(self, sines: Floats) -> Floats:
        """Where parallels lie along q."""
        # Within a cap 1 - |sine| = q² / 3; beyond it the line only has to stay beyond.
        return np.sqrt(3 * np.maximum(0, 1 - self.cap * sines)) if self.cap else sines

    def longitudes(self) -> tuple[Floats, Floats]:
        """The westernmost and easternmost longitude (M,) of each polygon."""
        p, q = self.points[..., 0], self.points[..., 1]
        if not self.cap:
            return self.middle + p.min(axis=1), self.middle + p.max(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            east = np.where(q > 1e-12, p / q, np.nan)  # the pole has no longitude
        west, east = np.nanmin(east, axis=1), np.nanmax(east, axis=1)
        return self.middle + west, self.middle + east

    def take(self, positions: Ints) -> "Polygons":
        """Some of them, perhaps several times."""
        return Polygons(
            self.source[positions],
            self.points[positions],
            self.count[positions],
            self.middle[positions],
            self.cap,
        )

    def cut(self, a: Floats | float, b: Floats | float, c: Floats | float) -> "Polygons":
        """What lies where a p + b q + c >= 0 (Sutherland and Hodgman 1974); a, b and c are for each polygon."""
        points, (num, length, _) = self.points, self.points.shape
        a, b, c = (np.broadcast_to(np.asarray(one, np.float64), num)[:, None] for one in (a, b, c))
        side = a * points[..., 0] + b * points[..., 1] + c
        real = np.arange(length) < self.count[:, None]
        after = np.where(np.arange(1, length + 1) < self.count[:, None], np.arange(1, length + 1), 0)
        following, beyond = (
            np.take_along_axis(points, after[..., None], 1),
            np.take_along_axis(side, after, 1),
        )
        inside = side >= 0
        crosses = real & (inside != (beyond >= 0))
        share = np.where(crosses, side, 0) / np.where(crosses, side - beyond, 1)
        crossing = points + share[..., None] * (following - points)
        found = np.stack([points, crossing], axis=2).reshape(num, 2 * length, 2)
        kept = np.stack([real & inside, crosses], axis=2).reshape(num, 2 * length)
        count = kept.sum(axis=1)
        order = np.argsort(~kept, axis=1, kind="stable")[:, : max(3, int(count.max(initial=0)))]
        order = np.where(np.arange(order.shape[1]) < count[:, None], order, order[:, :1])
        result = Polygons(
            self.source, np.take_along_axis(found, order[..., None], 1), count, self.middle, self.cap
        )
        return result.take(np.flatnonzero(count > 2))

    def areas(self) -> Floats:
        """(M,) areas in degrees times sine of latitude."""
        # From one corner: far from it digits would cancel.
        spokes = self.points - self.points[:, :1]
        ahead = np.roll(spokes, -1, axis=1)
        twice = spokes[..., 0] * ahead[..., 1] - spokes[..., 1] * ahead[..., 0]
        return np.asarray(self.factor * np.abs(twice.sum(axis=1)) / 2)


def overlap_areas(cells: Cells, y_edges: Floats, x_edges: Floats) -> Any:
    """(boxes, cells) sparse areas that boxes and cells have in common, in degrees times sine of latitude.

    Args:
        cells: whose corners are known.
        y_edges: (H + 1,) latitudes of the edges of boxes, monotonic.
        x_edges: (W + 1,) longitudes of the edges of boxes, monotonic, over at most a whole circle.
    """
    num, boxes = len(cells.latitude), (len(y_edges) - 1) * (len(x_edges) - 1)
    sines = np.sin(np.deg2rad(y_edges))
    parts = [
        found
        for polygons in _polygons(cells, max(1, _PIECES * num // (num + boxes)))
        for found in _in_boxes(polygons, sines, x_edges)
    ]
    box, source, area = (np.concatenate(one) for one in zip((_NO, _NO, _NO), *parts, strict=True))
    return csr_array(coo_array((area, (box.astype(np.int64), source.astype(np.int64))), (boxes, num)))


def cell_areas(cells: Cells) -> Floats:
    """(N,) areas of the cells in steradians."""
    total = np.zeros(len(cells.latitude))
    for polygons in _polygons(cells, _PIECES):
        np.add.at(total, polygons.source, polygons.areas())
    return np.deg2rad(total)


def _in_boxes(polygons: Polygons, sines: Floats, x_edges: Floats) -> Iterator[tuple[Ints, Ints, Floats]]:
    """Numbers of boxes and cells, and the area that they share."""
    width = len(x_edges) - 1
    for row, in_row in _in_rows(polygons, sines):
        for column, position, inside in _in_columns(in_row, x_edges):
            yield row[position] * width + column, inside.source, inside.areas()


def _in_rows(polygons: Polygons, sines: Floats) -> Iterator[tuple[Ints, Polygons]]:
    lines = polygons.row_lines(sines)
    low, high = np.minimum(lines[1:], lines[:-1]), np.maximum(lines[1:], lines[:-1])
    q = polygons.points[..., 1]
    row, position = _meeting(low, high, q.min(axis=1), q.max(axis=1))
    cut, row = _numbered(polygons.take(position), row)
    cut = cut.cut(0.0, 1.0, -low[row[cut.source]])
    cut = cut.cut(0.0, -1.0, high[row[cut.source]])
    yield row[cut.source], _renumbered(cut, polygons.source[position])


def _in_columns(polygons: Polygons, x_edges: Floats) -> Iterator[tuple[Ints, Ints, Polygons]]:
    west, east = polygons.longitudes()
    low, high = np.minimum(x_edges[1:], x_edges[:-1]), np.maximum(x_edges[1:], x_edges[:-1])
    if not len(west):
        return
    first = int(np.floor((low.min() - east.max()) / 360))
    last = int(np.ceil((high.max() - west.min()) / 360))
    for turns in range(first, last + 1):
        column, position = _meeting(low, high, west + 360 * turns, east + 360 * turns)
        cut, column = _numbered(polygons.take(position), column)
        for edge, sign in ((low, 1.0), (high, -1.0)):
            east_of_middle = edge[column[cut.source]] - 360 * turns - cut.middle
            # In the plane of a cap a meridian is a line through the pole, where p and q are zero.
            slope, offset = (east_of_middle, 0.0) if cut.cap else (0.0, east_of_middle)
            cut = cut.cut(sign, -sign * slope, -sign * offset)
        yield column[cut.source], position[cut.source], _renumbered(cut, polygons.source[position])


def _numbered(polygons: Polygons, labels: Ints) -> tuple[Polygons, Ints]:
    """The polygons numbered in order, so that those which remain after a cut can be told."""
    numbers = np.arange(len(labels))
    return Polygons(numbers, polygons.points, polygons.count, polygons.middle, polygons.cap), labels


def _renumbered(polygons: Polygons, source: Ints) -> Polygons:
    return Polygons(source[polygons.source], polygons.points, polygons.count, polygons.middle, polygons.cap)


def _meeting(low: Floats, high: Floats, start: Floats, stop: Floats) -> tuple[Ints, Ints]:
    """Pairs of an interval [low, high] of an axis and a range [start, stop] that share more than a point."""
    order = np.argsort(low)
    first = np.searchsorted(high[order], start, side="right")
    count = np.maximum(np.searchsorted(low[order], stop, side="left") - first, 0)
    position = np.repeat(np.arange(len(start)), count)
    within = np.arange(len(position)) - np.repeat(np.cumsum(count) - count, count)
    return order[first[position] + within], position


def _polygons(cells: Cells, chunk: int) -> Iterator[Polygons]:
    if cells.healpix is not None:
        yield from _healpix_polygons(cells.healpix, chunk)
        return
    assert cells.corners is not None
    for start in range(0, len(cells.latitude), chunk):
        latitude, longitude = cells.corners[:, start : start + chunk]
        if not cells.along_parallels:
            latitude, longitude = _beside_poles(*_along_great_circles(latitude, longitude))
        points = _unrolled(latitude, longitude)
        num = len(points)
        yield Polygons(start + np.arange(num), points, np.full(num, points.shape[1]), np.zeros(num), 0)


def _healpix_polygons(pixels: Healpix, chunk: int) -> Iterator[Polygons]:
    """The pixels cut where the polar caps begin, at j = 1 and j = 3 rows from the north pole."""
    face, d, j = pixels.corners()
    for start in range(0, len(face), chunk):
        some = slice(start, start + chunk)
        num = len(face[some])
        whole = Polygons(
            start + np.arange(num),
            np.stack([45 * d[some], j[some]], axis=-1),
            np.full(num, 4),
            np.asarray(45 * face[some], np.float64),
            0,
        )
        for cap, low, high in ((1, 0.0, 1.0), (0, 1.0, 3.0), (-1, 3.0, 4.0)):
            part = whole.cut(0.0, 1.0, -low).cut(0.0, -1.0, high)
            p, q = part.points[..., 0], part.points[..., 1]
            q = {1: q, 0: (2 - q) * 2 / 3, -1: 4 - q}[cap]
            yield Polygons(part.source, np.stack([p, q], axis=-1), part.count, part.middle, cap)


def _along_great_circles(latitude: Floats, longitude: Floats) -> tuple[Floats, Floats]:
    """Polygons (M, V) with more points on each side, on the great circle between its corners."""
    up, east = np.deg2rad(latitude), np.deg2rad(longitude)
    corner = np.stack([np.cos(up) * np.cos(east), np.cos(up) * np.sin(east), np.sin(up)], axis=-1)
    ahead = np.roll(corner, -1, axis=1)
    longest = float(np.rad2deg(np.linalg.norm(ahead - corner, axis=-1).max(initial=0)))
    steps = int(np.clip(np.ceil(8 * np.sqrt(longest)), 4, 32))
    # Symmetric in both corners, so that the neighbour finds the same points on its side.
    share = np.arange(steps)[:, None] / steps
    points = corner[:, :, None] * (1 - share) + ahead[:, :, None] * share
    points = points.reshape(len(points), -1, 3)
    points /= np.linalg.norm(points, axis=-1, keepdims=True)
    found = np.rad2deg(np.arcsin(np.clip(points[..., 2], -1, 1)))
    turned = np.rad2deg(np.arctan2(points[..., 1], points[..., 0]))
    # Corners as they were given: rounding would part neighbours at the seam or near a pole.
    found[:, ::steps], turned[:, ::steps] = latitude, longitude
    return found, turned


def _beside_poles(latitude: Floats, longitude: Floats) -> tuple[Floats, Floats]:
    """Polygons (M, V) whose corners on a pole, which have no longitude, are two: below the corners before and after."""
    pole = np.abs(latitude) > 90 - 1e-9
    if not pole.any():
        return latitude, longitude
    before = np.where(pole, np.roll(longitude, 1, axis=1), longitude)
    after = np.where(pole, np.roll(longitude, -1, axis=1), longitude)
    twice = np.stack([before, after], axis=2).reshape(len(longitude), -1)
    return np.repeat(latitude, 2, axis=1), twice


def _unrolled(latitude: Floats, longitude: Floats) -> Floats:
    """(M, V + 3, 2) longitude without jumps, and sine of latitude, of polygons (M, V); around a pole, up to it."""
    steps = (np.diff(longitude, axis=1, append=longitude[:, :1]) + 180) % 360 - 180
    start = longitude[:, :1]
    east = np.concatenate([start, start + np.cumsum(steps, axis=1)], axis=1)
    sine = np.sin(np.deg2rad(np.concatenate([latitude, latitude[:, :1]], axis=1)))
    # All the way round: the pole lies within, and the polygon is what lies between its sides and the pole.
    around = np.abs(east[:, -1] - east[:, 0]) > 180
    pole = np.where(sine.mean(axis=1) >= 0, 1.0, -1.0)
    along = np.where(around[:, None], pole[:, None], sine[:, [-1, 0]])
    east = np.concatenate([east, east[:, [-1, 0]]], axis=1)
    return np.stack([east, np.concatenate([sine, along], axis=1)], axis=-1)
