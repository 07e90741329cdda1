"""Error formulas: scores of the errors of single points, of means, edges and Fourier modes, and correlations.

Shapes as in `formula`. Each benchmark's choice of eps, floor, ddof and order is in `score_convention`.
"""

from collections.abc import Callable

import numpy as np

from pelagos.evaluation.conventions.formula import (
    Formula,
    Parameters,
    Terms,
    fraction,
    over_entries,
    plain,
    ratio,
    root,
)
from pelagos.preprocessing.array_types import Floats

_PRODUCTS = ("product", "squared_forecast", "squared_truth")


def _both_roots(terms: Terms, given: Parameters) -> Floats:
    """The floor is one of the norm itself."""
    return ratio(np.sqrt(terms["above"]), np.maximum(np.sqrt(terms["below"]), given.floor))


def _nrmse_terms(s: Terms, given: Parameters) -> dict[str, Floats]:
    # Σ w (t² + eps) is Σ w · (⟨t²⟩ + eps), and can be added up.
    return {"above": s["squared_error"], "below": s["squared_truth"] + given.eps * s["weight"]}


def _vrmse_terms(s: Terms, given: Parameters) -> dict[str, Floats]:
    weight = s["weight"]
    variance = ratio(s["centred_squared_truth"], weight - given.ddof)
    return {"above": s["squared_error"], "below": weight * (np.where(weight > 0, variance, 0.0) + given.eps)}


def _bias_terms(s: Terms, _: Parameters) -> dict[str, Floats]:
    # The errors of a failed forecast have no sign that could cancel another's.
    error = np.where(np.isposinf(s["max_absolute_error"]), np.inf, s["error"])
    return {"above": error, "below": s["weight"]}


def _mean_terms(s: Terms, given: Parameters) -> dict[str, Floats]:
    sums = _bias_terms(s, given)
    mean, defined = ratio(sums["above"], sums["below"]), sums["below"] > 0
    return {"above": np.where(defined, mean**2, 0.0), "below": defined.astype(np.float64)}


def _quadrant_terms(s: Terms, _: Parameters) -> dict[str, Floats]:
    power = s["quadrant_power"]
    return {"above": power, "below": np.ones_like(power)}


def _quadrant(terms: Terms, given: Parameters) -> Floats:
    # The root comes before the mean over wavenumbers.
    return over_entries(root(terms, given), given)


def _correlation_terms(prefix: str) -> Callable[[Terms, Parameters], dict[str, Floats]]:
    def terms(s: Terms, _: Parameters) -> dict[str, Floats]:
        return {name: s[prefix + name] for name in _PRODUCTS}

    return terms


def _correlation(terms: Terms, _: Parameters) -> Floats:
    pp, tt = terms["squared_forecast"], terms["squared_truth"]
    with np.errstate(invalid="ignore"):
        found = ratio(terms["product"], np.sqrt(pp) * np.sqrt(tt))
    # A forecast that isn't a number correlates with nothing; where there is no truth, nothing is known.
    return np.asarray(np.where(np.isfinite(pp) | ~(tt > 0), found, -np.inf))


def _skill(terms: Terms, _: Parameters) -> Floats:
    pp, pt, tt = terms["squared_forecast"], terms["product"], terms["squared_truth"]
    with np.errstate(invalid="ignore"):
        found = 1 - ratio(pp - 2 * pt + tt, tt)
    return np.asarray(np.where(np.isfinite(pp) | ~(tt > 0), found, -np.inf))


def _largest(terms: Terms, _: Parameters) -> Floats:
    return np.asarray(np.where(terms["weight"] > 0, terms["above"], np.nan))


def _max_terms(s: Terms, _: Parameters) -> dict[str, Floats]:
    return {"above": s["max_absolute_error"], "weight": s["weight"]}


def _products(prefix: str) -> tuple[str, ...]:
    return tuple(prefix + name for name in _PRODUCTS)


ERROR_FORMULAS: dict[str, Formula] = {
    "relative_l1": Formula(
        "Σ|e| / Σ|t|",
        ("absolute_error", "absolute_truth"),
        fraction("absolute_error", "absolute_truth"),
        plain,
    ),
    "normalised_relative_l1": Formula(
        "Σ|e/σ| / Σ|(t − μ)/σ|",
        ("normalised_error", "normalised_truth"),
        fraction("normalised_error", "normalised_truth"),
        plain,
    ),
    "relative_l2": Formula(
        "√Σe² / √Σt²",
        ("squared_error", "squared_truth"),
        fraction("squared_error", "squared_truth"),
        _both_roots,
    ),
    "nrmse": Formula(
        "√(⟨e²⟩ / (⟨t²⟩ + eps))", ("squared_error", "squared_truth", "weight"), _nrmse_terms, root
    ),
    "vrmse": Formula(
        "√(⟨e²⟩ / (var t + eps))", ("squared_error", "centred_squared_truth", "weight"), _vrmse_terms, root
    ),
    "rmse": Formula("√(Σ e² / Σ w)", ("squared_error", "weight"), fraction("squared_error", "weight"), root),
    "mae": Formula("⟨|e|⟩", ("absolute_error", "weight"), fraction("absolute_error", "weight"), plain),
    "bias": Formula("⟨e⟩", ("error", "weight"), _bias_terms, plain, "near zero"),
    "max_error": Formula("max |e|", ("max_absolute_error", "weight"), _max_terms, _largest, add=False),
    "mean_rmse": Formula("√⟨e⟩²", ("error", "weight"), _mean_terms, root),
    "boundary_rmse": Formula(
        "√⟨e²⟩ over the points of the four edges, corners twice",
        ("edge_squared_error", "edge_weight"),
        fraction("edge_squared_error", "edge_weight"),
        root,
    ),
    "fourier_rmse": Formula(
        "mean of √(Σ|FFT(e)|² / N²) over whole wavenumbers of the positive quadrant",
        ("quadrant_power",),
        _quadrant_terms,
        _quadrant,
    ),
    "cosine": Formula("⟨pt⟩ / √(⟨p²⟩⟨t²⟩)", _products(""), _correlation_terms(""), _correlation, "higher"),
    "pearson": Formula(
        "cov(p, t) / √(var p var t)",
        _products("centred_"),
        _correlation_terms("centred_"),
        _correlation,
        "higher",
    ),
    "anomaly_cosine": Formula(
        "⟨p′t′⟩ / √(⟨p′²⟩⟨t′²⟩) of anomalies from the climatology",
        _products("anomaly_"),
        _correlation_terms("anomaly_"),
        _correlation,
        "higher",
    ),
    "anomaly_skill": Formula(
        "1 − Σ(p − t)² / Σt′²: the share of the climatology's squared error that the forecast removes",
        _products("anomaly_"),
        _correlation_terms("anomaly_"),
        _skill,
        "higher",
    ),
}
