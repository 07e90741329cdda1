"""Spectral sums: what scores need of a frame's energy spectra, a few numbers in place of all wavenumbers."""

from itertools import pairwise

import numpy as np

from pelagos.preprocessing.array_types import Flags, Floats

STATISTICS = (
    "spectrum_weight",
    "log_spectrum_error",
    "top_octave_forecast",
    "top_octave_truth",
    "band_error",
    "band_truth",
)
SPECTRA = ("spectrum_forecast", "spectrum_truth")
"""Statistics of as many entries as there are resolved wavenumbers, with the mean."""
FLOOR = 1e-8
"""The share of the truth's energy that a wavenumber needs to be compared."""
BANDS = (4, 12)
"""The first wavenumbers of the middle and the high band, as PDEBench has them."""


def spectral_sums(
    forecast_NK: Floats, truth_NK: Floats, error_NK: Floats, resolved: int, edges: tuple[int, ...] = BANDS
) -> dict[str, Floats]:
    """(N,) sums of spectra, and (N, band) energies.

    A frame whose truth has no spectrum (NaN) counts for nothing; one whose forecast has none is infinitely wrong.

    Args:
        forecast_NK: energy by wavenumber.
        truth_NK: of the truth.
        error_NK: of the difference.
        resolved: the largest wavenumber resolved along all axes: the last octave is from its half to it.
        edges: the first wavenumbers of all bands but the lowest.
    """
    known = ~np.isnan(truth_NK).any(axis=-1)
    failed: Flags = np.asarray(known & ~np.isfinite(forecast_NK).all(axis=-1))
    usable = np.asarray(known & ~failed)[:, None]
    forecast, truth, error = (np.where(usable, one, 0.0) for one in (forecast_NK, truth_NK, error_NK))
    octave = slice(resolved // 2 + 1, resolved + 1)
    found = {
        "spectrum_weight": known.astype(np.float64),
        "log_spectrum_error": _log_error(forecast, truth),
        "top_octave_forecast": forecast[:, octave].sum(axis=-1),
        "top_octave_truth": truth[:, octave].sum(axis=-1),
        "band_error": _bands(error, edges),
        "band_truth": _bands(truth, edges),
    }
    for name in ("log_spectrum_error", "top_octave_forecast", "band_error"):
        found[name][failed] = np.inf
    return found


def resolved_spectra(forecast_NK: Floats, truth_NK: Floats, count: int) -> dict[str, Floats]:
    """(N, count) energies of the first wavenumbers; 0 where the truth has no spectrum, infinite of failed forecasts."""
    known = ~np.isnan(truth_NK).any(axis=-1)
    failed: Flags = np.asarray(known & ~np.isfinite(forecast_NK).all(axis=-1))
    usable = np.asarray(known & ~failed)[:, None]
    found = {}
    for name, energy_NK in zip(SPECTRA, (forecast_NK, truth_NK), strict=True):
        found[name] = np.zeros((len(energy_NK), count))
        kept = np.where(usable, energy_NK, 0.0)[:, :count]
        found[name][:, : kept.shape[1]] = kept
    found[SPECTRA[0]][failed] = np.inf
    return found


def _log_error(forecast: Floats, truth: Floats, floor: float = FLOOR) -> Floats:
    """As `spectra.log_ratio_error`: over wavenumbers with more than this share of the truth's energy."""
    forecast, truth = forecast[:, 1:], truth[:, 1:]
    counted = truth > floor * truth.sum(axis=-1, keepdims=True)
    with np.errstate(
        divide="ignore", invalid="ignore"
    ):  # a forecast without energy there is infinitely wrong
        ratios = np.where(counted, np.abs(np.log(forecast / truth)), 0.0)
    return np.asarray(ratios.sum(axis=-1) / np.maximum(counted.sum(axis=-1), 1))


def _bands(energy: Floats, edges: tuple[int, ...]) -> Floats:
    """Bands beyond the last wavenumber hold nothing."""
    count = energy.shape[-1]
    bounds = [min(edge, count) for edge in (0, *edges, count)]
    return np.stack([energy[:, low:high].sum(axis=-1) for low, high in pairwise(bounds)], axis=-1)
