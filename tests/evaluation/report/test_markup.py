import numpy as np
import pytest

from pelagos.evaluation.report.figures import ColourScale, Style
from pelagos.evaluation.report.markup import bars, cards, colour_bar, legend, number, table


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (np.nan, "–"),
        (None, "–"),
        (np.inf, "∞"),
        (-np.inf, "−∞"),
        (0.5, "0.500"),
        (-12345.6, "−12 346"),
        (1e-9, "10⁻⁹"),
    ],
)
def test_numbers_are_shown_for_people(value: float | None, shown: str) -> None:
    assert number(value) == shown


def test_columns_share_their_decimals_unless_sizes_differ_too_much() -> None:
    near = table(["a"], [[0.0123], [0.456]], [])
    assert "0.012<" in near
    assert "0.456<" in near
    far = table(["a"], [[1e-7], [123.0]], [])
    assert "10⁻⁷" in far
    assert ">123<" in far


def test_only_finite_numbers_can_be_the_lowest() -> None:
    page = table(["a"], [[np.nan], [2.0], [3.0], [np.inf]], ["a"])
    assert page.count("<b>") == 1
    assert "<b>2.00</b>" in page


def test_text_is_escaped_everywhere() -> None:
    evil = "<i>&"
    style = Style("--ink")
    for page in (
        cards([(evil, 1.0, evil)]),
        table([evil], [[evil]], []),
        legend({evil: style}),
        bars({evil: 1.0}),
        colour_bar(evil, ColourScale(0, 1, "viridis"), "m s-1"),
    ):
        assert evil not in page
        assert "&lt;i&gt;&amp;" in page


def test_the_longest_stage_fills_its_bar() -> None:
    page = bars({"short": 5.0, "long": 20.0})
    assert "width:25.0%" in page
    assert "width:100.0%" in page
    assert "width:0.0%" in bars({"nothing": 0.0})
