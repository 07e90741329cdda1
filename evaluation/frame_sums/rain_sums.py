"""Rain sums: SEEPS and FSS of one frame after the other, computed by the package `scores` (Leeuwenburg et al., 2024).

SEEPS (Rodwell et al., 2010) compares dry, light and heavy rain with how often each occurs where the point lies. FSS
(Roberts and Lean, 2008) compares the fractions of neighbourhoods in which an event happens.

Shapes: N fields, B forecasts of a batch, V variables, H rows, W columns, K thresholds.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pelagos.preprocessing.array_types import Flags, Floats, Ints
from pelagos.preprocessing.errors import ConfigError

DRY_MM = 0.25
"""Of an accumulation, the most that is dry: as in WeatherBench 2, where `scores` has 0.2."""
SEEPS_STATISTICS = ("seeps", "seeps_weight")
FSS_STATISTICS = ("fss_error", "fss_power")
Fields = NDArray[Any]


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


def fractions_sums(
    forecast_NHW: Floats, truth_NHW: Floats, threshold: float, window: int
) -> dict[str, Floats]:
    """(N,) sums of FSS = 1 - error / power of the event `value above threshold` in windows of so many points a side.

    Sums of several fields add up. NaN where a truth is missing somewhere; the error of a forecast that is not a number
    somewhere is all of its power, by which its score is 0, the worst there is.

    Raises:
        ConfigError: the package `scores` is not installed.
    """
    backends, kinds, tools = (
        _scores(f"scores.{name}") for name in ("fast.fss.fss_backends", "fast.fss.typing", "utils")
    )
    backend = backends.get_compute_backend(kinds.FssComputeMethod.NUMPY)
    above = tools.NumpyThresholdOperator(np.greater)
    found = {name: np.full(len(truth_NHW), np.nan) for name in FSS_STATISTICS}
    for n, (forecast, truth) in enumerate(zip(forecast_NHW, truth_NHW, strict=True)):
        if np.isnan(truth).any():
            continue
        failed = not np.isfinite(forecast).all()
        # A failed frame says the opposite of what happened, so that it weighs even where nothing did.
        said = np.where(truth > threshold, -np.inf, np.inf) if failed else forecast
        sums = backend(
            said,
            truth,
            event_threshold=threshold,
            window_size=(window, window),
            threshold_operator=above,
            zero_padding=False,
        ).compute_fss_decomposed()
        of_forecast, of_truth, difference = (float(one) / window**4 for one in sums.tolist())
        power = of_forecast + of_truth
        found["fss_error"][n], found["fss_power"][n] = power if failed else difference, power
    return found


@dataclass(frozen=True, eq=False)
class RainSums:
    """What is gathered of the one variable that is rain.

    Attributes:
        position: of the variable among those of the plan.
        dry: of an accumulation, the most that is dry.
        thresholds: above which the event of FSS happens.
        window: of FSS, in points a side.
        weights: (H, W) of the points.
        climate: gives that of the training split, when SEEPS first needs it.
    """

    position: int
    dry: float
    thresholds: tuple[float, ...]
    window: int
    weights: Floats
    climate: Callable[[], RainClimate]

    def gather(
        self, p_BVHW: Fields, t_BVHW: Fields, positions: Ints, wanted: Collection[str]
    ) -> dict[str, Floats]:
        """(B · V, K) the wanted statistics; NaN for all other variables."""
        places = np.flatnonzero(positions == self.position)
        if len(places) == 0:
            return {}
        p, t = (fields[:, places[0]].astype(np.float64) for fields in (p_BVHW, t_BVHW))
        sums: dict[str, Floats] = {}
        if not set(SEEPS_STATISTICS).isdisjoint(wanted):
            sums |= seeps_sums(p, t, self.climate(), self.weights, self.dry)
        if not set(FSS_STATISTICS).isdisjoint(wanted):
            each = [fractions_sums(p, t, threshold, self.window) for threshold in self.thresholds]
            sums |= {name: np.stack([one[name] for one in each], axis=-1) for name in FSS_STATISTICS}
        found = {}
        for name, values in sums.items():
            entries = values.reshape(len(p), -1)
            whole = np.full((*p_BVHW.shape[:2], entries.shape[1]), np.nan)
            whole[:, places[0]] = entries
            found[name] = whole.reshape(-1, entries.shape[1])
        return found


def require_scores() -> None:
    """Find the package `scores`, before anything long begins.

    Raises:
        ConfigError: it is not installed.
    """
    _scores("scores.categorical")


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
