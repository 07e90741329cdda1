"""Rain formulas: SEEPS and FSS of the sums of `rain_sums`."""

import numpy as np

from pelagos.evaluation.conventions.formula import (
    Formula,
    Parameters,
    Terms,
    fraction,
    over_entries,
    plain,
    ratio,
)
from pelagos.preprocessing.array_types import Floats


def _fractions_terms(s: Terms, _: Parameters) -> dict[str, Floats]:
    # Frames whose truth has holes have no windows: they add nothing.
    return {name: np.where(np.isnan(s[name]), 0.0, s[name]) for name in ("fss_error", "fss_power")}


def _fractions_skill(terms: Terms, given: Parameters) -> Floats:
    return over_entries(1 - ratio(terms["fss_error"], terms["fss_power"]), given)


RAIN_FORMULAS: dict[str, Formula] = {
    "seeps": Formula(
        "stable equitable error in probability space of dry, light and heavy rain by the climate of each point",
        ("seeps", "seeps_weight"),
        fraction("seeps", "seeps_weight"),
        plain,
    ),
    "fss": Formula(
        "1 − Σ(f − o)² / (Σf² + Σo²), f and o the shares of the points of a window above the threshold",
        ("fss_error", "fss_power"),
        _fractions_terms,
        _fractions_skill,
        "higher",
    ),
}
