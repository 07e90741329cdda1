from xml.etree import ElementTree

import numpy as np
import pytest

from pelagos.evaluation.report.chart import Curve, Panel, Styles, chart
from pelagos.preprocessing.errors import DataError


def test_a_method_keeps_its_style_and_the_truth_is_ink() -> None:
    styles = Styles()
    first = styles.of("fine-tuned")
    assert styles.of("from scratch") != first
    assert styles.of("fine-tuned") == first
    assert styles.of("Truth").variable == "--ink"
    assert styles.of("persistence").dash == "dashed"
    assert styles.of("Fine-tuned") != first  # another name is another method
    assert len({styles.of(f"network {i}") for i in range(20)}) == 20


def test_more_methods_than_can_be_told_apart_are_refused() -> None:
    styles = Styles()
    with pytest.raises(DataError, match="28 methods apart"):
        [styles.of(f"network {i}") for i in range(29)]


def test_a_logarithmic_axis_says_so() -> None:
    x = np.array([1.0, 10.0])
    pages = [
        chart(Panel("", [Curve("a", x, x)], "k", "energy", log_y=log), Styles()) for log in (False, True)
    ]
    assert ["energy, log" in page for page in pages] == [False, True]


def test_a_chart_takes_its_colours_from_the_page_and_refers_to_nothing_outside() -> None:
    x = np.arange(5.0)
    panel = Panel('a < b & "c" $x$', [Curve("truth", x, x + 1, x, x + 2), Curve("net", x, x**2)], "x", "y")
    found = chart(panel, Styles())
    root = ElementTree.fromstring(found)
    assert root.tag == "svg"
    assert "http" not in found
    assert "font-family" not in found
    assert "var(--ink)" in found
    assert "var(--c0)" in found
    assert "#0000" not in found
    assert 'a < b & "c" $x$' in [text.text for text in root.iter("text")]


def test_curves_with_gaps_zeros_and_infinities_are_drawn_on_log_axes() -> None:
    x = np.arange(1.0, 6)
    curves = [
        Curve("a", x, np.array([1e-6, np.nan, np.inf, 1e3, 0.0])),
        Curve("b", x[:1], np.array([2.0])),
    ]
    found = chart(Panel("", curves, "x", "y", log_x=True, log_y=True), Styles())
    assert "10⁻⁶" in found
    assert chart(Panel("", curves, "x", "y", log_x=True, log_y=True), Styles()) == found
