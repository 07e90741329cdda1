import re

import numpy as np
import pytest

from pelagos.evaluation.report.graticule import Canvas
from pelagos.preprocessing.grid import Grid


def globe(rows: int, columns: int) -> Grid:
    y, x = np.linspace(90, -90, rows), np.arange(columns) * 360 / columns
    return Grid("latlon", y, x, ("pole", "pole"), ("periodic", "periodic"))


def test_a_map_is_as_wide_as_its_degrees_and_a_field_as_its_domain() -> None:
    assert Canvas.of(globe(181, 360)).ratio == pytest.approx(2, rel=0.01)
    channel = Grid("cartesian", np.arange(8.0), np.arange(24.0))
    assert Canvas.of(channel).ratio == pytest.approx(3)
    assert not Canvas.of(channel).lines


def test_lines_lie_at_their_degrees_with_north_on_top() -> None:
    lines = Canvas.of(globe(181, 360)).lines
    tops = {name: float(top) for top, name in re.findall(r'class="lat" style="top:([\d.]+)%">([^<]*)', lines)}
    assert tops["0°"] == pytest.approx(50, abs=0.5)
    assert tops["45°N"] == pytest.approx(25, abs=0.5)
    assert tops["45°S"] == pytest.approx(75, abs=0.5)
    lefts = {
        name: float(left) for left, name in re.findall(r'class="lon" style="left:([\d.]+)%">([^<]*)', lines)
    }
    assert lefts["90°E"] == pytest.approx(25, abs=0.5)
    assert lefts["90°W"] == pytest.approx(75, abs=0.5)


@pytest.mark.parametrize("span", [0.7, 3.0, 12.0, 55.0, 180.0])
def test_a_map_of_any_size_has_a_few_lines(span: float) -> None:
    grid = Grid("latlon", np.linspace(0, span / 2, 20), np.linspace(5, 5 + span, 40))
    assert 2 <= Canvas.of(grid).lines.count("<span") <= 12
