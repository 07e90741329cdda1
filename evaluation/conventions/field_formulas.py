"""Field formulas: scores of what a field looks like, rather than of its errors point by point."""

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
    same,
)
from pelagos.evaluation.frame_sums.spectral_sums import FLOOR, SPECTRA
from pelagos.preprocessing.array_types import Floats

_TABLE = ("hits", "false_alarms", "misses", "correct_rejections")


def _entry_ratio(*, rooted: bool) -> Callable[[Terms, Parameters], Floats]:
    def finish(terms: Terms, given: Parameters) -> Floats:
        shares = ratio(terms["above"], terms["below"])
        return over_entries(np.sqrt(shares) if rooted else shares, given)

    return finish


def _critical_success(terms: Terms, given: Parameters) -> Floats:
    hits = terms["hits"]
    return over_entries(ratio(hits, hits + terms["false_alarms"] + terms["misses"]), given)


def _frequency_bias(terms: Terms, given: Parameters) -> Floats:
    hits = terms["hits"]
    return over_entries(ratio(hits + terms["false_alarms"], hits + terms["misses"]), given)


def _extremal_dependence(terms: Terms, given: Parameters) -> Floats:
    """SEDI of Ferro and Stephenson (2011), undefined where a rate is 0 or 1."""
    hit_rate = ratio(terms["hits"], terms["hits"] + terms["misses"])
    false_rate = ratio(terms["false_alarms"], terms["false_alarms"] + terms["correct_rejections"])
    with np.errstate(divide="ignore", invalid="ignore"):
        f, h, f_not, h_not = (np.log(rate) for rate in (false_rate, hit_rate, 1 - false_rate, 1 - hit_rate))
        index = (f - h - f_not + h_not) / (f + h + f_not + h_not)
    return over_entries(np.where(np.isfinite(index), index, np.nan), given)


def _quantile_error_terms(s: Terms, _: Parameters) -> dict[str, Floats]:
    with np.errstate(invalid="ignore"):
        gap = np.abs(s["quantiles_forecast"] - s["quantiles_truth"])
    defined = ~np.isnan(gap)
    return {"above": np.where(defined, gap, 0.0), "below": defined.astype(np.float64)}


def _deviation_terms(s: Terms, _: Parameters) -> dict[str, Floats]:
    failed = np.isposinf(s["max_absolute_error"])
    above = np.where(failed, np.inf, s["centred_squared_forecast"])
    return {"above": above, "below": s["centred_squared_truth"]}


def _alternating_terms(s: Terms, _: Parameters) -> dict[str, Floats]:
    variance = ratio(s["centred_squared_forecast"], s["weight"])
    return {"above": s["alternating_forecast"], "below": np.where(np.isfinite(variance), variance, 0.0)}


def _spectrum_factor(terms: Terms, _: Parameters) -> Floats:
    """The first wavenumber, the mean of the field, is left out."""
    forecast, truth = (terms[name][..., 1:] for name in SPECTRA)
    counted = truth > FLOOR * truth.sum(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        factors = np.where(counted, np.abs(np.log(forecast / truth)), -np.inf)
    return np.asarray(np.where(counted.any(axis=-1), np.exp(factors.max(axis=-1, initial=-np.inf)), np.nan))


FIELD_FORMULAS: dict[str, Formula] = {
    "checkerboard": Formula(
        "⟨d²⟩ / var p, with d the parts of p that alternate from point to point along one axis or both",
        ("alternating_forecast", "centred_squared_forecast", "weight"),
        _alternating_terms,
        plain,
    ),
    "checkerboard_ratio": Formula(
        "⟨d²⟩ of the forecast over that of the truth",
        ("alternating_forecast", "alternating_truth"),
        fraction("alternating_forecast", "alternating_truth"),
        plain,
        "near one",
    ),
    "top_octave_ratio": Formula(
        "energy of the forecast over that of the truth, above half the largest resolved wavenumber",
        ("top_octave_forecast", "top_octave_truth"),
        fraction("top_octave_forecast", "top_octave_truth"),
        plain,
        "near one",
    ),
    "log_spectrum_error": Formula(
        "mean over wavenumbers of |ln E(p) − ln E(t)|",
        ("log_spectrum_error", "spectrum_weight"),
        fraction("log_spectrum_error", "spectrum_weight"),
        plain,
    ),
    "spectrum_factor": Formula(
        "largest of E(p)/E(t) and E(t)/E(p) over wavenumbers",
        SPECTRA,
        same(*SPECTRA),
        _spectrum_factor,
    ),
    "deviation_ratio": Formula(
        "√(var p / var t) within frames",
        ("centred_squared_forecast", "centred_squared_truth"),
        _deviation_terms,
        root,
        "near one",
    ),
    "band_rmse": Formula(
        "root mean square error that a band of wavenumbers carries",
        ("band_error", "spectrum_weight"),
        lambda s, _: {"above": 2 * s["band_error"], "below": s["spectrum_weight"][..., None]},
        _entry_ratio(rooted=True),
    ),
    "relative_band_error": Formula(
        "√(energy of the error / energy of the truth) in a band of wavenumbers",
        ("band_error", "band_truth"),
        fraction("band_error", "band_truth"),
        _entry_ratio(rooted=True),
    ),
    "critical_success": Formula(
        "hits / (hits + misses + false alarms)", _TABLE, same(*_TABLE), _critical_success, "higher"
    ),
    "frequency_bias": Formula(
        "(hits + false alarms) / (hits + misses)", _TABLE, same(*_TABLE), _frequency_bias, "near one"
    ),
    "extremal_dependence": Formula(
        "SEDI of hit and false alarm rate", _TABLE, same(*_TABLE), _extremal_dependence, "higher"
    ),
    "quantile_error": Formula(
        "|q(p) − q(t)| of the quantiles of a frame",
        ("quantiles_forecast", "quantiles_truth"),
        _quantile_error_terms,
        _entry_ratio(rooted=False),
    ),
}
