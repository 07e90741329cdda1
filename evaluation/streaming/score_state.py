"""Score state: what is kept of the forecasts of one method, in NumPy arrays allocated from the plan.

A state covers a part of the plan's samples and lead times. Two states that share no forecast are merged into one:
entries of single samples take their places, what is pooled over samples is added. Scores are made of it by `scores`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pelagos.evaluation.streaming.score_plan import TRUTH, PlanPart, ScorePlan
from pelagos.preprocessing.array_types import Flags, Ints
from pelagos.preprocessing.errors import DataError


class Kept(NamedTuple):
    """One array of a state."""

    dims: tuple[str, ...]
    dtype: type


BOTH: Mapping[str, Kept] = {
    # Which forecasts are in it.
    "done": Kept(("sample", "lead_time"), np.bool_),
    # At no more lead times than curves need: see `ScorePlan.thinned`.
    "quantities": Kept(("sample", "thinned", "quantity"), np.float64),
    # Of each sample at a few lead times, and at more of them summed over those samples that have one.
    "spectra": Kept(("sample", "shown", "variable", "wavenumber"), np.float64),
    "spectrum_sum": Kept(("thinned", "variable", "wavenumber"), np.float64),
    "spectrum_count": Kept(("thinned", "variable"), np.int64),
    # Energy of each band, NaN of a frame with missing values; the last is the last resolved octave.
    "bands": Kept(("sample", "thinned", "variable", "band"), np.float64),
    # How many points have values in each bin.
    "histogram": Kept(("thinned", "variable", "bin"), np.int64),
    "pictures": Kept(("picture", "shown", "variable", "y", "x"), np.float32),
}
OF_TRUTH: Mapping[str, Kept] = {
    **BOTH,
    # How many points have a truth, and whether the initial frame has no holes.
    "count": Kept(("sample", "lead_time", "variable"), np.int64),
    "complete": Kept(("sample",), np.bool_),
    "initial_quantities": Kept(("sample", "quantity"), np.float64),
    "quantity_scales": Kept(("sample", "quantity"), np.float64),
}
OF_METHODS: Mapping[str, Kept] = {
    **BOTH,
    "points": Kept(("sample", "lead_time", "region", "variable", "statistic"), np.float64),
    # What chosen scores need beyond the sums of points, see `extra_sums`.
    "extra": Kept(("sample", "lead_time", "variable", "entry"), np.float64),
    # How many points have a truth, but nothing to forecast it from.
    "left_out": Kept(("sample", "lead_time", "variable"), np.int64),
    "error_spectrum_sum": Kept(("thinned", "variable", "wavenumber"), np.float64),
    "error_spectrum_count": Kept(("thinned", "variable"), np.int64),
    "error_bands": Kept(("sample", "thinned", "variable", "band"), np.float64),
    # Energy at the grid scale of the forecast and of its truth, see `grid_scale`.
    "alternating": Kept(("sample", "thinned", "variable", "field"), np.float64),
    # Sums over samples at a few lead times.
    "maps": Kept(("shown", "variable", "map", "y", "x"), np.float64),
}


def arrays_of(method: str) -> Mapping[str, Kept]:
    """What is kept of a method, or of the truth."""
    return OF_TRUTH if method == TRUTH else OF_METHODS


@dataclass(frozen=True, eq=False)
class ScoreState:
    """What is kept of one method's forecasts, for a part of the plan.

    Attributes:
        plan: of all forecasts.
        method: its name, or that of the truth.
        part: of the plan.
        arrays: by the names of `arrays_of`.
    """

    plan: ScorePlan
    method: str
    part: PlanPart
    arrays: Mapping[str, NDArray[Any]]

    @classmethod
    def empty(cls, plan: ScorePlan, method: str, part: PlanPart) -> "ScoreState":
        """A state of no forecast yet: all zero."""
        sizes = plan.sizes(method, part)
        arrays: dict[str, NDArray[Any]] = {
            name: np.zeros([sizes[dim] for dim in kept.dims], kept.dtype)
            for name, kept in arrays_of(method).items()
        }
        return cls(plan, method, part, arrays)

    @property
    def done(self) -> Flags:
        """(samples, leads) which forecasts are in it."""
        return self.arrays["done"]

    def merge(self, other: "ScoreState") -> None:
        """Take in a state of a part of this one, of the same method and plan.

        Raises:
            DataError: a forecast is in both.
        """
        assert (self.plan, self.method) == (other.plan, other.method), "states of different plans"
        places = self._places(other.part)
        if np.any(self.done[places["sample"], places["lead_time"]] & other.done):
            raise DataError(
                f"scores of {self.method}: samples {other.part.samples.start} to {other.part.samples.stop - 1} at lead"
                f" times {other.part.leads.start} to {other.part.leads.stop - 1} are counted already; a forecast must"
                " be in one part only"
            )
        for name, kept in arrays_of(self.method).items():
            mine = self.arrays[name][tuple(places.get(dim, slice(None)) for dim in kept.dims)]
            if "sample" in kept.dims or "picture" in kept.dims:
                mine[...] = other.arrays[name]
            else:
                mine += other.arrays[name]

    def _places(self, part: PlanPart) -> dict[str, slice]:
        """Where another part's entries are along the dimensions that differ."""
        plan = self.plan
        return {
            "sample": _within(self.part.samples, part.samples),
            "lead_time": _within(self.part.leads, part.leads),
            "shown": _consecutive(plan.shown_in(self.part), plan.shown_in(part)),
            "thinned": _consecutive(plan.thinned_in(self.part), plan.thinned_in(part)),
            "picture": slice(0, plan.sizes(self.method, part)["picture"]),
        }


def _consecutive(whole: Ints, part: Ints) -> slice:
    """Where some of the chosen lead times are among all of them."""
    before = int(np.searchsorted(whole, part[0])) if len(part) else 0
    return slice(before, before + len(part))


def _within(whole: slice, part: slice) -> slice:
    assert whole.start <= part.start <= part.stop <= whole.stop, f"{part} is no part of {whole}"
    return slice(part.start - whole.start, part.stop - whole.start)
