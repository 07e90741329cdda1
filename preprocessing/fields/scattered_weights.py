"""Weights from scattered points on the sphere to others: of the nearest point, or of the three around.

Triangles are those of Delaunay on the sphere: a stereographic projection keeps circles, and so which triangles are
Delaunay's. It is made from either pole, each for the points of its hemisphere.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.spatial import Delaunay, KDTree, QhullError

from pelagos.preprocessing.array_types import Floats

Ints = NDArray[np.int64]
_BEYOND_EQUATOR = -0.5  # sine of the latitude up to which a hemisphere borrows points from the other
_REACH = 3  # spacings of points around which a point still tells the value: gaps are wider


@dataclass(frozen=True, eq=False)
class Triangles:
    """The triangle around each of T points.

    Attributes:
        corners: (T, 3) numbers of the source points; anything where there is no triangle.
        shares: (T, 3) barycentric weights.
        found: (T,) whether a triangle of source points lies around.
    """

    corners: Ints
    shares: Floats
    found: NDArray[np.bool_]


def nearest_weights(source: Floats, target: Floats) -> Any:
    """(T, N) sparse weights of the nearest point; none where no points lie around, or only far away.

    Args:
        source: (N, 3) unit vectors of the points that have values.
        target: (T, 3) unit vectors of the points that need some.
    """
    _, nearest = KDTree(source).query(target)
    known = np.flatnonzero(_triangles(source, target).found & _within_reach(source, target))
    return csr_array(coo_array((np.ones(len(known)), (known, nearest[known])), (len(target), len(source))))


def linear_weights(source: Floats, target: Floats) -> Any:
    """(T, N) sparse weights of the corners of the triangle around each point, in the same cases."""
    around = _triangles(source, target)
    known = np.flatnonzero(around.found & _within_reach(source, target))
    rows, columns = np.repeat(known, 3), around.corners[known].ravel()
    return csr_array(coo_array((around.shares[known].ravel(), (rows, columns)), (len(target), len(source))))


def _within_reach(source: Floats, target: Floats) -> NDArray[np.bool_]:
    """Whether the nearest point is not much further away than points are from one another."""
    tree = KDTree(source)
    distance, nearest = tree.query(target)
    # The fourth neighbour: on a grid those on all sides are about as near.
    spacing = tree.query(source, k=min(5, len(source)))[0][:, -1]
    return np.asarray(distance <= _REACH * np.maximum(spacing[nearest], np.median(spacing)))


def _triangles(source: Floats, target: Floats) -> Triangles:
    num = len(target)
    corners, shares, found = np.zeros((num, 3), np.int64), np.zeros((num, 3)), np.zeros(num, bool)
    for pole in (1, -1):
        points = np.flatnonzero(pole * source[:, 2] > _BEYOND_EQUATOR)
        wanted = np.flatnonzero(target[:, 2] >= 0 if pole == 1 else target[:, 2] < 0)
        if len(points) < 3 or not len(wanted):
            continue
        try:
            mesh = Delaunay(_projected(source[points], pole))
        except QhullError:  # all on one line: nothing lies between them
            continue
        plane = _projected(target[wanted], pole)
        triangle = mesh.find_simplex(plane, tol=1e-9)
        inside = triangle >= 0
        wanted, triangle, plane = wanted[inside], triangle[inside], plane[inside]
        transform = mesh.transform[triangle]
        first = np.einsum("tij,tj->ti", transform[:, :2], plane - transform[:, 2])
        weights = np.concatenate([first, 1 - first.sum(axis=1, keepdims=True)], axis=1)
        flat = ~np.isfinite(weights).all(axis=1)  # a triangle without area says nothing
        corners[wanted], shares[wanted] = (
            points[mesh.simplices[triangle]],
            np.where(flat[:, None], 0, weights),
        )
        found[wanted] = ~flat
    # On a side of a triangle rounding may leave a weight just below zero.
    shares = np.clip(shares, 0, 1)
    return Triangles(corners, shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-300), found)


def _projected(points: Floats, pole: int) -> Floats:
    """Stereographic coordinates (N, 2), the given pole in their middle."""
    return np.asarray(points[:, :2] / (1 + pole * points[:, 2])[:, None])
