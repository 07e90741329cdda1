"""Score catalogue: the scores that an evaluation can be asked for by name, beside those of a convention.

All are over points weighted by the areas of their cells. A benchmark's own choices are in `score_convention`.
"""

from typing import Literal, get_args

from pelagos.evaluation.conventions.score_definition import ScoreDefinition
from pelagos.evaluation.frame_sums.spectral_sums import BANDS

PointScore = Literal[
    "relative_l1", "relative_l2", "nrmse", "vrmse", "rmse", "mae", "bias", "max_error", "cosine", "pearson"
]
AnomalyScore = Literal["acc", "pooled_acc", "skill"]
FieldScore = Literal[
    "log_spectrum_error",
    "spectrum_factor",
    "deviation_ratio",
    "band_rmse",
    "top_octave_ratio",
    "checkerboard",
    "checkerboard_ratio",
]
TailScore = Literal["quantile_error", "critical_success", "frequency_bias", "extremal_dependence"]
EnsembleScore = Literal["crps", "fair_crps", "energy_score", "spread", "ensemble_mean_rmse", "spread_skill"]
RainScore = Literal["seeps", "fss"]
HorizonName = Literal["correlation_time", "valid_time", "skill_horizon", "blow_up_time"]
ScoreName = Literal[
    PointScore,
    AnomalyScore,
    FieldScore,
    TailScore,
    EnsembleScore,
    RainScore,
    HorizonName,
    "drift",
    "rank_histogram",
]

QUANTILES = (0.01, 0.5, 0.99, 0.999)
"""Shares of the points of a frame below the quantiles that are compared."""
THRESHOLDS = (1.0, 2.0, 3.0)
"""Events are values above the mean by so many deviations of the training split."""


def definitions(
    name: ScoreName, members: int = 1, rain: tuple[float, ...] = ()
) -> tuple[ScoreDefinition, ...]:
    """What is computed under a name; nothing where it is no reduction of one formula (horizons, drift, ranks).

    Args:
        name: of a score.
        members: of the ensemble.
        rain: thresholds of FSS.
    """
    if name in get_args(PointScore):
        return (_point(name),)
    if name in get_args(AnomalyScore):
        formula = "anomaly_skill" if name == "skill" else "anomaly_cosine"
        return (_apart(name, formula, pool=name != "acc"),)
    if name in get_args(EnsembleScore):
        return (_apart(name, name, members=members),)
    if name == "band_rmse":
        return _each(name, len(BANDS) + 1, _band_names())
    if name == "quantile_error":
        return _each(name, len(QUANTILES), [f"{share:g}" for share in QUANTILES])
    if name == "seeps":
        return (_apart(name, name),)
    if name == "fss":
        return _each(name, len(rain), [f"{threshold:g}" for threshold in rain])
    if name in get_args(TailScore):
        return _each(name, len(THRESHOLDS), [f"{deviations:g}std" for deviations in THRESHOLDS], pool=True)
    if name in get_args(FieldScore):
        return (_apart(name, name, pool=name != "log_spectrum_error"),)
    return ()


def _point(name: str) -> ScoreDefinition:
    """Ratios are of single forecasts and variable groups; errors with units are pooled and kept apart."""
    with_units = name in ("rmse", "mae", "bias", "max_error")
    if with_units:
        how = ScoreDefinition(name=name, formula=name, variables="each", pool_samples=name != "max_error")
        return how.model_copy(update={"samples": "max"}) if name == "max_error" else how
    return ScoreDefinition(
        name=name, formula=name, pool_variables=True, samples="median", ddof=1 if name == "vrmse" else 0
    )


def _apart(name: str, formula: str, *, pool: bool = True, members: int = 1) -> ScoreDefinition:
    return ScoreDefinition(name=name, formula=formula, pool_samples=pool, variables="each", members=members)


def _each(name: str, count: int, labels: list[str], *, pool: bool = True) -> tuple[ScoreDefinition, ...]:
    """A score for each wavenumber band, quantile or threshold."""
    whole = _apart(name, name, pool=pool)
    return tuple(
        whole.model_copy(update={"name": f"{name}_{label}", "entries": (entry, entry + 1)})
        for entry, label in zip(range(count), labels, strict=True)
    )


def _band_names() -> list[str]:
    bounds = [0, *BANDS]
    return [*(f"{low}_{high - 1}" for low, high in zip(bounds, BANDS, strict=False)), f"{BANDS[-1]}_on"]
