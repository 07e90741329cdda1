"""Ensemble formulas: probabilistic scores of the sums of `ensemble_sums`. M members, x one of them."""

from collections.abc import Callable

import numpy as np

from pelagos.evaluation.conventions.formula import (
    Formula,
    Parameters,
    Terms,
    fraction,
    plain,
    root,
)
from pelagos.preprocessing.array_types import Floats

_WEIGHT = "ensemble_weight"


def _crps_terms(*, fair: bool) -> Callable[[Terms, Parameters], dict[str, Floats]]:
    def terms(s: Terms, given: Parameters) -> dict[str, Floats]:
        # The mean over all pairs holds each member with itself, at distance zero: (M − 1) / M of that over others.
        share = 1.0 if fair else (given.members - 1) / given.members
        with np.errstate(invalid="ignore"):
            above = s["ensemble_absolute_error"] - share / 2 * s["ensemble_pairs"]
        # A failed frame is inf − inf.
        return {"above": np.where(np.isnan(above), np.inf, above), "below": s[_WEIGHT]}

    return terms


def _energy_terms(s: Terms, given: Parameters) -> dict[str, Floats]:
    with np.errstate(invalid="ignore"):
        score = s["energy_error"] - s["energy_pairs"] / 2
    defined = s[_WEIGHT] > 0
    above = np.where(np.isnan(score), np.inf, score)
    return {"above": np.where(defined, above, 0.0), "below": defined.astype(np.float64)}


def _ratio_terms(s: Terms, given: Parameters) -> dict[str, Floats]:
    # The spread of a perfect ensemble of M members is smaller than its error by this (Fortin et al., 2014).
    return {
        "above": (given.members + 1) / given.members * s["ensemble_variance"],
        "below": s["mean_squared_error"],
    }


ENSEMBLE_FORMULAS: dict[str, Formula] = {
    "crps": Formula(
        "E|x − t| − ½ E|x − x′| over all pairs",
        ("ensemble_absolute_error", "ensemble_pairs", _WEIGHT),
        _crps_terms(fair=False),
        plain,
    ),
    "fair_crps": Formula(
        "E|x − t| − ½ E|x − x′| over pairs of different members",
        ("ensemble_absolute_error", "ensemble_pairs", _WEIGHT),
        _crps_terms(fair=True),
        plain,
    ),
    "energy_score": Formula(
        "E‖x − t‖ − ½ E‖x − x′‖ over pairs of different members, ‖·‖ the root mean square of a field",
        ("energy_error", "energy_pairs", _WEIGHT),
        _energy_terms,
        plain,
    ),
    "spread": Formula(
        "√⟨variance of the members⟩",
        ("ensemble_variance", _WEIGHT),
        fraction("ensemble_variance", _WEIGHT),
        root,
        "none",
    ),
    "ensemble_mean_rmse": Formula(
        "√⟨(x̄ − t)²⟩, x̄ the mean of the members",
        ("mean_squared_error", _WEIGHT),
        fraction("mean_squared_error", _WEIGHT),
        root,
    ),
    "spread_skill": Formula(
        "√((M + 1)/M · ⟨variance of the members⟩ / ⟨(x̄ − t)²⟩)",
        ("ensemble_variance", "mean_squared_error"),
        _ratio_terms,
        root,
        "near one",
    ),
}
