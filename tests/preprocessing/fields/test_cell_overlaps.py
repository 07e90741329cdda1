import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pelagos.preprocessing.array_types import Floats
from pelagos.preprocessing.fields.cell_overlaps import cell_areas, overlap_areas
from pelagos.preprocessing.sources.cells import Cells
from pelagos.preprocessing.sources.healpix import Healpix

Y, X = np.linspace(90, -90, 12), np.linspace(-17, 343, 20)


def boxes() -> Floats:
    return np.outer(np.abs(np.diff(np.sin(np.deg2rad(Y)))), np.diff(X)).ravel()


def triangles(times: int, turned: bool) -> Cells:
    """An octahedron whose triangles are cut in four several times; turned so that no corner lies on a pole."""
    up, axes = np.array([0.0, 0, 1]), np.eye(3)[[0, 1, 0, 1, 0]] * np.array([1, 1, -1, -1, 1])[:, None]
    faces = np.array([[axes[i], axes[i + 1], sign * up] for i in range(4) for sign in (1, -1)])
    for _ in range(times):
        a, b, c = faces.transpose(1, 0, 2)
        ab, bc, ca = (one / np.linalg.norm(one, axis=1)[:, None] for one in (a + b, b + c, c + a))
        parts = ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))
        faces = np.concatenate([np.stack(part, axis=1) for part in parts])
    if turned:
        faces = Rotation.from_euler("xyz", [0.3, 0.7, 1.1]).apply(faces.reshape(-1, 3)).reshape(faces.shape)
    middle = faces.mean(axis=1)
    middle /= np.linalg.norm(middle, axis=1)[:, None]
    latitude, longitude = (
        (np.rad2deg(np.arcsin(np.clip(xyz[..., 2], -1, 1))), np.rad2deg(np.arctan2(xyz[..., 1], xyz[..., 0])))
        for xyz in (middle, faces)
    )
    return Cells(latitude[0], latitude[1], "triangles", corners=np.stack(longitude))


@pytest.mark.parametrize("nside", [1, 3, 8])
def test_pixels_of_healpix_are_cut_without_loss_and_have_equal_areas(nside: int) -> None:
    pixels = Healpix(nside, nested=False)
    cells = Cells(*pixels.centres(), "pixels", healpix=pixels)
    assert cell_areas(cells) == pytest.approx(4 * np.pi / pixels.size, rel=1e-13)
    shared = overlap_areas(cells, Y, X)
    assert shared.sum(axis=1) == pytest.approx(boxes(), rel=1e-12)
    assert shared.sum(axis=0) == pytest.approx(720 / pixels.size, rel=1e-12)


def test_a_box_at_the_pole_shares_with_the_pixels_there_what_meridians_cut() -> None:
    pixels = Healpix(1, nested=True)
    cells = Cells(*pixels.centres(), "pixels", healpix=pixels)
    shared = overlap_areas(cells, np.array([45.0, 90]), np.array([0.0, 90])).toarray()[0]
    # North of 41.8 degrees the first base pixel reaches from meridian 0 to 90.
    assert shared[0] == pytest.approx(90 * (1 - np.sqrt(0.5)), rel=1e-13)
    assert np.count_nonzero(shared) == 1


@pytest.mark.parametrize("turned", [False, True])
def test_triangles_are_cut_without_loss_over_poles_and_seam(turned: bool) -> None:
    cells = triangles(2, turned)
    areas, shared = cell_areas(cells), overlap_areas(cells, Y, X)
    assert areas.sum() == pytest.approx(4 * np.pi, rel=1e-13)
    assert shared.sum(axis=1) == pytest.approx(boxes(), rel=1e-12)
    assert shared.sum(axis=0) == pytest.approx(np.rad2deg(areas), rel=1e-12)


def test_areas_of_spherical_triangles_are_right() -> None:
    assert cell_areas(triangles(0, turned=False)) == pytest.approx(np.pi / 2, rel=1e-13)
    cells = triangles(3, turned=True)
    up, east = np.deg2rad(cells.corners if cells.corners is not None else 0)
    a, b, c = np.stack([np.cos(up) * np.cos(east), np.cos(up) * np.sin(east), np.sin(up)], -1).transpose(
        1, 0, 2
    )
    # Van Oosterom and Strackee 1983: the solid angle of three unit vectors.
    below = 1 + (a * b).sum(1) + (b * c).sum(1) + (c * a).sum(1)
    exact = 2 * np.abs(np.arctan2((a * np.cross(b, c)).sum(1), below))
    assert cell_areas(cells) == pytest.approx(exact, rel=3e-3)  # sides are followed by straight lines
