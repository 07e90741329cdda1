"""The style sheet is whole in itself, readable, and kind to those who are red-green blind."""

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from pelagos.evaluation.report import figures, stylesheet
from pelagos.evaluation.report.chart import NUM_COLOURS
from pelagos.evaluation.report.stylesheet import STYLE
from pelagos.preprocessing.array_types import Floats

SCHEMES = [
    dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", body)) for body in re.findall(r":root \{(.*?)\}", STYLE, re.S)
]
LIGHT, DARK = SCHEMES
VISION = {
    "usual": np.eye(3),
    # Machado, Oliveira and Fernandes (2009), for linear RGB and a severity of 1.
    "without red": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "without green": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour: str) -> Floats:
    """Linear RGB of an sRGB colour (IEC 61966-2-1)."""
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def lab(rgb: Floats) -> Floats:
    """CIELAB under D65, in which distances are about what eyes see."""
    x, y, z = TO_XYZ @ rgb.clip(0, 1) / (0.9505, 1, 1.089)
    fx, fy, fz = (np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z))
    return np.array([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)])


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2."""
    dark, light = sorted(float(TO_XYZ[1] @ linear(colour)) for colour in (one, other))
    return (light + 0.05) / (dark + 0.05)


def test_both_schemes_define_what_the_rules_and_figures_use() -> None:
    own = {
        "columns",
        "least",
        "frames",
        "seconds",
        "width",
    }  # which each grid of pictures or film sets for itself
    used = set(re.findall(r"var\(--(\w+)\)", STYLE)) - own
    assert set(LIGHT) == set(DARK)
    assert used <= set(LIGHT)
    assert {f"c{i}" for i in range(NUM_COLOURS)} <= set(LIGHT)


def test_every_class_in_a_page_has_a_rule() -> None:
    sources = [path.read_text() for path in Path(figures.__file__).parent.glob("*.py")]
    named = {
        name
        for source in sources
        for names in re.findall(r'class="([a-z ]+)', source)
        for name in names.split()
    }
    assert len(named) > 10
    assert not named - set(re.findall(r"\.([a-z]+)", STYLE))


def test_nothing_is_fetched_from_elsewhere() -> None:
    assert not re.search(r"url\(|@import|@font-face|//", STYLE)
    assert stylesheet.STYLE.count("{") == stylesheet.STYLE.count("}")


@pytest.mark.parametrize("scheme", SCHEMES, ids=["light", "dark"])
def test_texts_and_lines_stand_out(scheme: dict[str, str]) -> None:
    for text in ("ink", "muted", "accent"):
        assert min(contrast(scheme[text], scheme[ground]) for ground in ("paper", "card")) >= 4.5  # WCAG AA
    for number in range(NUM_COLOURS):
        assert contrast(scheme[f"c{number}"], scheme["paper"]) >= 3  # WCAG AA for graphics


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("scheme", SCHEMES, ids=["light", "dark"])
def test_colours_of_methods_are_told_apart(scheme: dict[str, str], vision: str) -> None:
    seen = {name: lab(VISION[vision] @ linear(scheme[name])) for name in scheme if re.fullmatch(r"c\d", name)}
    distances = {(a, b): np.linalg.norm(seen[a] - seen[b]) for a, b in combinations(seen, 2)}
    # 2.3 is what can just be noticed side by side; thin lines on a chart need several times that.
    assert min(distances.values()) > 10, min(distances, key=lambda pair: distances[pair])
