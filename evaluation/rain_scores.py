"""Rain scores: SEEPS and FSS of one frame after the other, computed by the package `scores` (Leeuwenburg et al., 2024).

SEEPS (Rodwell et al., 2010) compares dry, light and heavy rain with how often each occurs where the point lies. FSS
(Roberts and Lean, 2008) compares the fractions of neighbourhoods in which an event happens.

Shapes: N fields, H rows, W columns.
"""

from dataclasses import dataclass
from types import ModuleType

import numpy as np
import xarray as xr

from pelagos.preprocessing.array_types import Flags, Floats
from pelagos.preprocessing.errors import ConfigError

DRY_MM = 0.25
"""Of an accumulation, the most that is dry: as in WeatherBench 2, where `scores` has 0.2."""
SEEPS_STATISTICS = ("seeps", "seeps_weight")


@dataclass(frozen=True, eq=False)
class RainClimate:
    """How often it is dry, and what is heavy rain, by the training split.

    Attributes:
        dry: (H, W) share of dry times; NaN where there is none.
        heavy: (H, W) the amount that a third of wet times exceed [mm].
    """

    dry: Floats
    heavy: Floats

    @classmethod
    def fit(cls, amounts_THW: Floats, dry: float = DRY_MM) -> "RainClimate":
        """The climate of accumulations [mm], NaN where missing."""
        known = ~np.isnan(amounts_THW)
        wet = np.where(amounts_THW > dry, amounts_THW, np.nan)
        count = known.sum(axis=0)
        share = np.where(count > 0, (known & np.isnan(wet)).sum(axis=0) / np.maximum(count, 1), np.nan)
        ever: Flags = np.asarray(~np.isnan(wet).all(axis=0))
        heavy = np.full(share.shape, np.nan)
        if ever.any():
            heavy[ever] = np.nanquantile(wet[:, ever], 2 / 3, axis=0)
        return cls(share, heavy)


def seeps_sums(
    forecast_NHW: Floats, truth_NHW: Floats, climate: RainClimate, weights_HW: Floats, dry: float = DRY_MM
) -> dict[str, Floats]:
    """(N,) weighted sums of SEEPS, and of the weights of the points that have one: those dry 10 to 85 % of the time.

    A forecast that is not a number has an infinite score.

    Raises:
        ConfigError: the package `scores` is not installed.
    """
    package = _scores("scores.categorical")
    # SEEPS of a missing forecast is missing; here that is a failure wherever there is a truth.
    failed = ~np.isfinite(forecast_NHW) & ~np.isnan(truth_NHW)
    forecast, truth = (_labelled(one) for one in (np.where(failed, 0.0, forecast_NHW), truth_NHW))
    points = package.seeps(
        forecast,
        truth,
        _labelled(climate.dry),
        _labelled(climate.heavy),
        dry_light_threshold=dry,
        preserve_dims="all",
    ).transpose("n", "y", "x")
    values = np.where(failed & ~np.isnan(points.values), np.inf, points.values)
    valid = ~np.isnan(values)
    sums = np.where(valid, values, 0.0) * weights_HW, valid * weights_HW
    return {name: part.sum(axis=(-2, -1)) for name, part in zip(SEEPS_STATISTICS, sums, strict=True)}


def fractions_skill(forecast_NHW: Floats, truth_NHW: Floats, threshold: float, window: int) -> Floats:
    """(N,) FSS of the event `value above threshold` in neighbourhoods of window × window points.

    NaN where a truth is missing somewhere, 0, the worst there is, where a forecast is not a number.

    Raises:
        ConfigError: the package `scores` is not installed.
    """
    package = _scores("scores.spatial")
    found = np.full(len(truth_NHW), np.nan)
    for n, (forecast, truth) in enumerate(zip(forecast_NHW, truth_NHW, strict=True)):
        if np.isnan(truth).any():
            continue
        if not np.isfinite(forecast).all():
            found[n] = 0.0
            continue
        found[n] = package.fss_2d_single_field(
            forecast,
            truth,
            event_threshold=threshold,
            window_size=(window, window),
            threshold_operator=np.greater,
        )
    return found


def _labelled(values: Floats) -> xr.DataArray:
    return xr.DataArray(values, dims=("n", "y", "x")[-values.ndim :])


def _scores(name: str) -> ModuleType:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"SEEPS and FSS are computed by the package scores: pip install 'pelagos[scores]' ({error})"
        ) from error
