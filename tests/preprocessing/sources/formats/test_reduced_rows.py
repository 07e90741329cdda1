import numpy as np
import pytest

from pelagos.preprocessing.array_types import Floats
from pelagos.preprocessing.fields.cell_overlaps import cell_areas
from pelagos.preprocessing.sources.cells import Cells
from pelagos.preprocessing.sources.formats.reduced_rows import reduced_cells


def octahedral(num: int, shift: float = 0.0) -> tuple[Floats, Floats]:
    """The points of an octahedral Gaussian grid: 20 on the rows at the poles, and four more on each row from there."""
    rows = np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(2 * num)[0]))[::-1]
    half = 4 * np.arange(1, num + 1) + 16
    counts = np.concatenate([half, half[::-1]])
    longitude = np.concatenate([(np.arange(count) + shift) * 360 / count for count in counts])
    return np.repeat(rows, counts), longitude


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_rows_around_the_globe_become_boxes_that_fill_it(shift: float) -> None:
    cells = reduced_cells(Cells(*octahedral(8, shift), "cells"))
    areas = cell_areas(cells)
    assert areas.sum() == pytest.approx(4 * np.pi, rel=1e-13)
    assert areas[:20] == pytest.approx(areas[0], rel=1e-12)
    edge = np.sin(np.deg2rad((cells.latitude[0] + cells.latitude[20]) / 2))
    assert areas[0] == pytest.approx(2 * np.pi / 20 * (1 - edge), rel=1e-12)


def test_other_points_stay_points() -> None:
    latitude, longitude = octahedral(8)
    region = (latitude > 20) & (latitude < 60)
    half = longitude < 180
    order = np.random.default_rng(0).permutation(len(latitude))
    for chosen in (region, half, order):
        assert not reduced_cells(Cells(latitude[chosen], longitude[chosen], "cells")).has_areas
