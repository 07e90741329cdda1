import numpy as np
import pytest

from pelagos.evaluation.inference.estimate import Estimate
from pelagos.evaluation.report.chart import Style
from pelagos.evaluation.report.figures import ColourScale
from pelagos.evaluation.report.markup import bars, cards, colour_bar, interval, legend, number, table


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


def test_an_end_of_a_scale_beyond_which_there_are_values_says_so() -> None:
    page = colour_bar("t", ColourScale(0.0, 1.0, "viridis", least=0.0, most=9.0), "K")
    assert "≥ 1.00" in page
    assert "single values reach up to 9.00" in page
    assert "≤" not in page
    assert 'class="over"' in page
    assert "reach" not in colour_bar("t", ColourScale(0.0, 1.0, "viridis", least=0.0, most=1.0), "K")


def test_an_estimate_is_shown_with_its_interval_at_one_precision() -> None:
    page = table(
        ["a"], [[Estimate(0.0802, 0.07, 0.0912, 20, 0)], [Estimate(0.2, np.nan, np.nan, 1, 0)]], ["a"]
    )
    assert "<b>0.0802</b><small>0.0700 to 0.0912</small>" in page
    assert page.count("<small>") == 1
    assert interval(Estimate(1.0, 0.5, np.inf, 9, 1)) == "0.500 to ∞"
