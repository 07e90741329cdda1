"""Field picture: the colours of a picture stand for its values."""

from pathlib import Path

import numpy as np
from matplotlib.image import imread

from pelagos.evaluation.report.field_picture import FieldRow, write_picture


def test_high_values_are_red_low_ones_blue_and_missing_ones_grey(tmp_path: Path) -> None:
    values = np.concatenate(
        [np.full((20, 10), -1.0), np.full((20, 10), np.nan), np.full((20, 10), 1.0)], axis=1
    )
    write_picture([FieldRow("u", values[None], ["now"])], "made", tmp_path / "a.png")
    pixels = imread(tmp_path / "a.png")[..., :3]
    saturated = np.unique(pixels.reshape(-1, 3).round(2), axis=0)
    assert any(r > 0.35 and b < 0.15 for r, _, b in saturated)
    assert any(b > 0.35 and r < 0.05 for r, _, b in saturated)
    grey = np.array([168, 172, 176]) / 255
    assert (np.abs(pixels - grey).max(axis=-1) < 0.01).sum() > 1000


def test_a_line_is_drawn_as_a_curve(tmp_path: Path) -> None:
    write_picture([FieldRow("u", np.sin(np.arange(32.0))[None, None], ["now"])], "made", tmp_path / "a.svg")
    assert "<image" not in (tmp_path / "a.svg").read_text()
