import numpy as np
import pytest

from pelagos.preprocessing.array_types import Floats
from pelagos.preprocessing.fields.scattered_weights import linear_weights, nearest_weights
from pelagos.preprocessing.sources.cells import on_sphere
from pelagos.preprocessing.sources.healpix import Healpix


def around(num: int) -> Floats:
    north, east = np.meshgrid(np.linspace(-85, 85, num), np.linspace(0, 350, 2 * num), indexing="ij")
    return on_sphere(north.ravel(), east.ravel())


def test_constants_stay_and_smooth_fields_converge_to_second_order() -> None:
    errors, target = [], around(20)
    for nside in (8, 16):
        source = on_sphere(*Healpix(nside, nested=True).centres())
        weights = linear_weights(source, target)
        assert weights.sum(axis=1) == pytest.approx(1, rel=1e-12)
        field, wanted = (np.sin(2 * xyz[:, 0]) * xyz[:, 2] + xyz[:, 1] for xyz in (source, target))
        errors.append(np.abs(weights @ field - wanted).max())
    assert errors[1] < 0.01
    assert errors[0] / errors[1] > 3


def test_linear_functions_of_position_in_the_triangle_are_kept_to_truncation() -> None:
    source = on_sphere(*Healpix(32, nested=True).centres())
    weights = linear_weights(source, around(9))
    assert np.abs(weights @ source - around(9)).max() < 1e-3  # the sagitta of a cell of two degrees


def test_nearest_takes_the_nearest() -> None:
    source = on_sphere(*Healpix(4, nested=False).centres())
    weights, target = nearest_weights(source, around(12)), around(12)
    chosen = (weights @ np.arange(len(source))).astype(int)
    # Some are as far from two.
    assert (target * source[chosen]).sum(axis=1) == pytest.approx((target @ source.T).max(axis=1), rel=1e-14)


@pytest.mark.parametrize("method", [nearest_weights, linear_weights])
def test_nothing_is_made_up_outside_a_region_or_in_a_gap(method: object) -> None:
    north, east = (axis.ravel() for axis in np.meshgrid(np.arange(40.0, 60), np.arange(-10.0, 20)))
    land = (np.abs(north - 50) < 6) & (np.abs(east - 5) < 8)
    source = on_sphere(north[~land], east[~land])
    target = on_sphere(np.array([50.0, 45.2, 39, 50, -50]), np.array([5.0, -8.3, 0, 40, 5]))
    weights = method(source, target)  # type: ignore[operator]
    assert weights.sum(axis=1) == pytest.approx([0, 1, 0, 0, 0])
