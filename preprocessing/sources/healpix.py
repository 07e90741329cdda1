"""HEALPix: equal areas on the sphere in 12 faces of nside x nside pixels (Górski et al. 2005, ApJ 622, 759).

Within a face, (x, y) run from its southern corner to the north-east and to the north-west. With d = x - y and
j = (rows of the face) - x - y, counted from the north pole in units of nside, pixels are diamonds whose sides are
straight lines in (d, j), in the polar caps as well.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.array_types import Floats

Ints = NDArray[np.int64]

_FACE_ROWS = np.array([2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4])
"""j of the southern corner of each face."""
_FACE_COLUMNS = np.array([1, 3, 5, 7, 0, 2, 4, 6, 1, 3, 5, 7])
"""Longitude of the middle of each face, in units of 45 degrees."""


@dataclass(frozen=True)
class Healpix:
    """All pixels of one resolution, in one of the two orders.

    Attributes:
        nside: pixels along the side of a face; for the nested order a power of two.
        nested: whether pixels follow one another within faces (nested), or along latitudes (ring).
    """

    nside: int
    nested: bool

    @classmethod
    def of_length(cls, num: int, *, nested: bool) -> "Healpix | None":
        """The grid of `num` pixels; None if no whole sphere has that many."""
        nside = round((num / 12) ** 0.5)
        whole = num > 0 and 12 * nside**2 == num
        return cls(nside, nested) if whole and (not nested or nside & (nside - 1) == 0) else None

    @property
    def size(self) -> int:
        """The number of pixels."""
        return 12 * self.nside**2

    def face_positions(self) -> tuple[Ints, Ints, Ints]:
        """The face (N,) of each pixel, and its column x and row y there."""
        n = self.nside
        if self.nested:
            face, within = np.divmod(np.arange(self.size), n * n)
            return face, _even_bits(within), _even_bits(within >> 1)
        face, y, x = (axis.ravel() for axis in np.indices((12, n, n)))
        order = np.argsort(_ring_index(n, face, x, y))
        return face[order], x[order], y[order]

    def corners(self) -> tuple[Ints, Floats, Floats]:
        """The middle longitude (N,) of each face in units of 45 degrees, and (d, j) (N, 4) of the corners there."""
        face, x, y = self.face_positions()
        dx, dy = np.array([0, 1, 1, 0]), np.array([0, 0, 1, 1])
        right, up = (x[:, None] + dx) / self.nside, (y[:, None] + dy) / self.nside
        return _FACE_COLUMNS[face], right - up, _FACE_ROWS[face][:, None] - right - up

    def centres(self) -> tuple[Floats, Floats]:
        """Latitudes and longitudes (N,) in degrees."""
        face, x, y = self.face_positions()
        right, up = (x + 0.5) / self.nside, (y + 0.5) / self.nside
        d, j = right - up, _FACE_ROWS[face] - right - up
        # Distance from the nearer pole in units of a cap; 1 along the equator's belt.
        reach = np.minimum(1, np.minimum(j, 4 - j))
        z = np.where(reach == 1, (2 - j) * 2 / 3, np.sign(2 - j) * (1 - reach**2 / 3))
        return np.rad2deg(np.arcsin(z)), 45 * (_FACE_COLUMNS[face] + d / reach) % 360


def _even_bits(values: Ints) -> Ints:
    """Every second bit of the values, moved together."""
    out = np.zeros_like(values)
    for bit in range(31):
        out |= (values >> bit) & (1 << bit)
    return out


def _ring_index(n: int, face: Ints, x: Ints, y: Ints) -> Ints:
    """Positions in the ring order: from the north pole southwards, and eastwards from longitude 0 on each ring."""
    ring = _FACE_ROWS[face] * n - x - y - 1  # 1 at the north pole, 4 n - 1 at the south pole
    length = np.minimum(n, np.minimum(ring, 4 * n - ring))  # pixels of the ring, divided by four
    belt = 2 * n * (n - 1) + 4 * n * (ring - n)
    before = np.where(ring < n, 2 * ring * (ring - 1), belt)
    before = np.where(ring > 3 * n, 12 * n * n - 2 * length * (length + 1), before)
    # Every second ring of the belt begins half a pixel further east.
    shift = np.where((ring >= n) & (ring <= 3 * n), (ring - n) & 1, 0)
    position = (_FACE_COLUMNS[face] * length + x - y + 1 + shift) // 2
    return np.asarray(before + (position - 1) % (4 * length))
