import numpy as np
import pytest

from pelagos.preprocessing.sources.healpix import Healpix


def test_the_twelve_base_pixels_lie_where_gorski_put_them() -> None:
    latitude, longitude = Healpix(1, nested=True).centres()
    high = np.rad2deg(np.arcsin(2 / 3))
    assert latitude == pytest.approx([high] * 4 + [0] * 4 + [-high] * 4)
    assert longitude.tolist() == [45, 135, 225, 315, 0, 90, 180, 270, 45, 135, 225, 315]


def test_centres_of_rings_are_those_of_the_paper() -> None:
    n = 4
    latitude, longitude = Healpix(n, nested=False).centres()
    # Equations 4 to 9: z = 1 - i² / 3 n² in the cap, 4/3 - 2 i / 3 n in the belt, on ring i.
    assert np.sin(np.deg2rad(latitude[:4])) == pytest.approx(1 - 1 / (3 * n**2))
    assert longitude[:4].tolist() == [45, 135, 225, 315]
    assert longitude[4:8] == pytest.approx(90 * (np.arange(4) + 0.5) / 2)
    belt = 2 * n * (n - 1)
    assert np.sin(np.deg2rad(latitude[belt : belt + 32])) == pytest.approx(
        np.repeat([2 / 3, 1 / 2], 16), abs=1e-14
    )
    assert longitude[belt + 16 : belt + 19] == pytest.approx([0, 22.5, 45])
    assert (np.diff(latitude) <= 1e-12).all()
    assert latitude[::-1] == pytest.approx(-latitude)


def test_both_orders_name_the_same_pixels() -> None:
    # Of nside 2, by hand: nested pixels 0 to 3 of the first face, in the ring order.
    ring, nested = (Healpix(2, nested=one).centres() for one in (False, True))
    places = {(round(a, 9), round(b, 9)): i for i, (a, b) in enumerate(zip(*ring, strict=True))}
    found = [places[round(a, 9), round(b, 9)] for a, b in zip(*nested, strict=True)]
    assert found[:8] == [13, 5, 4, 0, 15, 7, 6, 1]
    assert sorted(found) == list(range(48))


def test_only_whole_spheres_are_healpix() -> None:
    assert Healpix.of_length(12 * 9, nested=False) == Healpix(3, nested=False)
    assert Healpix.of_length(12 * 9, nested=True) is None  # nested sides are powers of two
    assert Healpix.of_length(100, nested=False) is None
