"""Extra sums: the statistics beyond those of points that an evaluation asks for, side by side in one array.

Shapes: B forecasts of a batch, V variables, H rows, W columns, N = B · V fields, K wavenumbers or thresholds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pelagos.evaluation.frame_sums import (
    edge_sums,
    ensemble_sums,
    grid_scale,
    quadrant_power,
    rain_sums,
    spectral_sums,
    tail_counts,
)
from pelagos.preprocessing.array_types import Flags, Floats, Ints
from pelagos.preprocessing.grid import Grid

ANOMALIES = ("anomaly_product", "anomaly_squared_forecast", "anomaly_squared_truth")
_BANDS = ("band_error", "band_truth")
Fields = NDArray[Any]


class Spectra(NamedTuple):
    """(N, K) energies by wavenumber of forecasts, truths and errors."""

    forecast: Floats
    truth: Floats
    error: Floats


@dataclass(frozen=True, eq=False)
class ExtraSums:
    """What is gathered of each frame.

    Attributes:
        widths: statistic -> how many entries of the array it takes.
        grid: of the fields.
        weights: (H, W) of the points.
        thresholds: (V, K) above which an event happens.
        shares: of the quantiles.
        members: of the ensemble, which follow each other among the forecasts of a batch.
        rain: which variable is rain, where SEEPS or FSS are wanted.
    """

    widths: Mapping[str, int]
    grid: Grid
    weights: Floats
    thresholds: Floats
    shares: tuple[float, ...]
    members: int = 1
    rain: rain_sums.RainSums | None = None

    @classmethod
    def of(
        cls,
        needs: Iterable[str],
        grid: Grid,
        weights: Floats,
        thresholds: Floats,
        shares: tuple[float, ...],
        members: int = 1,
        rain: rain_sums.RainSums | None = None,
    ) -> "ExtraSums":
        """The statistics among `needs` that are known here; whoever gathers the others knows them."""
        events, quantiles = thresholds.shape[1], len(shares)
        known: dict[str, int] = {}
        for names, width in (
            (edge_sums.STATISTICS, 1),
            (quadrant_power.STATISTICS, min(grid.shape) // 2),
            (grid_scale.STATISTICS, 1),
            (tail_counts.STATISTICS, events),
            (tail_counts.QUANTILES, quantiles),
            (spectral_sums.STATISTICS, 1),
            (_BANDS, len(spectral_sums.BANDS) + 1),
            (spectral_sums.SPECTRA, resolved(grid) + 1),
            (ANOMALIES, 1),
            (ensemble_sums.STATISTICS, 1),
            ((ensemble_sums.RANKS,), members + 1),
            (rain_sums.SEEPS_STATISTICS, 1),
            (rain_sums.FSS_STATISTICS, len(rain.thresholds) if rain else 0),
        ):
            known |= dict.fromkeys(names, width)
        wanted = set(needs)
        widths = {name: width for name, width in known.items() if name in wanted}
        return cls(widths, grid, weights, thresholds, shares, members, rain)

    @property
    def width(self) -> int:
        """Entries of each field."""
        return sum(self.widths.values())

    @property
    def labels(self) -> list[str]:
        """What each entry is of: the statistic and, where it has several, their number."""
        return [
            name if width == 1 and name not in rain_sums.FSS_STATISTICS else f"{name}[{entry}]"
            for name, width in self.widths.items()
            for entry in range(width)
        ]

    def wants(self, statistics: Iterable[str]) -> bool:
        """Whether any of these is gathered."""
        return any(name in self.widths for name in statistics)

    def gather(
        self,
        p_BVHW: Fields,
        t_BVHW: Fields,
        positions: Ints,
        spectra: Spectra | None,
        climatology: Fields | None,
    ) -> Floats:
        """(B, V, width) the statistics of one frame.

        Args:
            p_BVHW: forecasts.
            t_BVHW: truths, NaN where missing.
            positions: of the V variables among those of the thresholds.
            spectra: where the grid has them.
            climatology: (B, V, H, W) what anomalies are from.
        """
        p, t = (fields.reshape(-1, *fields.shape[2:]) for fields in (p_BVHW, t_BVHW))
        found: dict[str, Floats] = {}
        if self.wants(edge_sums.STATISTICS):
            found |= edge_sums.edge_sums(p, t)
        if self.wants(quadrant_power.STATISTICS):
            found |= quadrant_power.quadrant_power(p, t)
        if self.wants(grid_scale.STATISTICS):
            found |= grid_scale.grid_scale(p, t, self.weights, self.grid.periodic)
        if self.wants(tail_counts.STATISTICS):
            thresholds = np.tile(self.thresholds[positions], (len(p_BVHW), 1))
            found |= tail_counts.tail_counts(p, t, thresholds, self.weights)
        if self.wants(tail_counts.QUANTILES):
            found |= tail_counts.frame_quantiles(p, t, self.shares)
        if self.wants(spectral_sums.STATISTICS) and spectra is not None:
            found |= spectral_sums.spectral_sums(
                *spectra, min(resolved(self.grid), spectra.error.shape[-1] - 1)
            )
            if self.grid.kind == "latlon":
                # Zonal spectra are per circle of latitude: their sums are no errors in a field's units.
                found = {name: one for name, one in found.items() if name not in _BANDS}
        if self.wants(spectral_sums.SPECTRA) and spectra is not None:
            found |= spectral_sums.resolved_spectra(*spectra[:2], resolved(self.grid) + 1)
        if self.wants(ANOMALIES) and climatology is not None:
            found |= anomaly_sums(p, t, climatology.reshape(p.shape), self.weights)
        if self.wants((*ensemble_sums.STATISTICS, ensemble_sums.RANKS)) and self.members > 1:
            found |= self._ensemble(p_BVHW, t_BVHW)
        if self.rain is not None:
            found |= self.rain.gather(p_BVHW, t_BVHW, positions, self.widths)
        if not self.widths:
            return np.empty((*p_BVHW.shape[:2], 0))
        parts = [self._entries(found.get(name), len(p), width) for name, width in self.widths.items()]
        return np.concatenate(parts, axis=1).reshape(*p_BVHW.shape[:2], self.width)

    def _ensemble(self, p_BVHW: Fields, t_BVHW: Fields) -> dict[str, Floats]:
        """The sums of each ensemble, with all of its members."""
        shape = (-1, self.members, *p_BVHW.shape[1:])
        members = np.moveaxis(p_BVHW.reshape(shape), 1, 2)
        truth = t_BVHW.reshape(shape)[:, 0]
        found = ensemble_sums.ensemble_sums(
            members.reshape(-1, *members.shape[2:]), truth.reshape(-1, *truth.shape[2:]), self.weights
        )
        # (ensemble, variable) to (ensemble, member, variable), as the fields of a batch are ordered.
        return {
            name: np.repeat(one.reshape(len(truth), 1, p_BVHW.shape[1], -1), self.members, axis=1)
            for name, one in found.items()
        }

    @staticmethod
    def _entries(values: Floats | None, count: int, width: int) -> Floats:
        """(N, width); NaN where a statistic can't be had of this grid or these times."""
        return np.full((count, width), np.nan) if values is None else values.reshape(count, width)


def resolved(grid: Grid) -> int:
    """The number of the largest wavenumber that all axes resolve: half of the columns on latitudes."""
    if grid.kind == "latlon":
        return len(grid.x) // 2
    sides = [size * step for size, step in zip(grid.shape, grid.spacing, strict=True)]
    # Shells are 2π / longest side wide, and an axis resolves π / spacing; rounding must not lose the last.
    return int(max(sides) / (2 * max(grid.spacing)) + 1e-9)


def anomaly_sums(
    p_NHW: Fields, t_NHW: Fields, climatology_NHW: Fields, weights_HW: Floats
) -> dict[str, Floats]:
    """(N,) weighted sums of products of anomalies, over the points that have a truth and a climatology.

    A forecast that is not a number has an infinite square, by which its correlation is the worst there is.
    """
    valid = ~np.isnan(t_NHW) & ~np.isnan(climatology_NHW)
    failed: Flags = np.asarray((~np.isfinite(p_NHW) & valid).any(axis=(-2, -1)))
    with np.errstate(over="ignore", invalid="ignore"):  # a forecast that blew up
        p, t = (np.where(valid, one.astype(np.float64) - climatology_NHW, 0.0) for one in (p_NHW, t_NHW))
        p = np.where(failed[:, None, None], 0.0, p)
        products = (p * t, p**2, t**2)
    sums = [np.einsum("nyx,yx->n", product, weights_HW) for product in products]
    sums[1] = np.where(failed, np.inf, sums[1])
    return dict(zip(ANOMALIES, sums, strict=True))
