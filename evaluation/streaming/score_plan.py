"""Score plan: which forecasts are scored at which points, and the sizes of all that is kept of them.

Shapes: N samples (trajectory, start and member), L lead times, V variables, H rows, W columns.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from pelagos.evaluation.conservation import quantity_names
from pelagos.evaluation.forecast_plan import ForecastPlan, StartBatch, lead_times
from pelagos.evaluation.frame_sums.extra_sums import ExtraSums, resolved
from pelagos.evaluation.frame_sums.rain_sums import RainSums
from pelagos.evaluation.point_sums import STATISTICS
from pelagos.evaluation.streaming.chosen_scores import HEADLINE_ALONE, ChosenScores
from pelagos.evaluation.streaming.frame_spectra import FrameSpectra
from pelagos.evaluation.streaming.region import Region, whole
from pelagos.evaluation.streaming.sphere_spectra import SphereSpectra
from pelagos.preprocessing.array_types import Floats, Ints
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.store.store import Store
from pelagos.preprocessing.variables import Variable, keys, with_role

TRUTH = "truth"
"""What the truth is called among the methods: it has spectra, invariants and pictures like them."""
BINS = 64
"""Of a histogram, between the mean minus and plus `REACH` deviations; one more on each side holds the rest."""
REACH = 8.0
SHOWN = 5
"""Lead times at most of which maps, pictures and the spectra of each sample are kept."""
THINNED = 64
"""Lead times at most at which spectra, invariants and histograms are taken: they cost more than all errors together."""
BAND_EDGES = (1, 4, 12)
"""PDEBench's bands of wavenumbers: from 1, from 4 and from 12 on."""
MAPS = ("weight", "error", "squared_error")
FIELDS = ("forecast", "truth")


class PlanPart(NamedTuple):
    """A part of the samples and of the lead times."""

    samples: slice
    leads: slice


@dataclass(frozen=True, eq=False)
class ScorePlan:
    """What is scored.

    Attributes:
        forecasts: which there are; samples are its trajectories, starts and members, the last running fastest.
        lead_times: (L,) in the store's units of time.
        variables: those that any of the methods has.
        methods: name -> the keys of its variables.
        regions: the first is the whole domain.
        scales: mean and deviation of each variable.
        grid: of all fields.
        pictured: the sample of which frames are kept.
        chosen: scores beside the headline.
        rain: what SEEPS and FSS are made of.
    """

    forecasts: ForecastPlan
    lead_times: Floats
    variables: tuple[Variable, ...]
    methods: Mapping[str, tuple[str, ...]]
    regions: tuple[Region, ...]
    scales: Floats
    grid: Grid
    pictured: int = 0
    chosen: ChosenScores = HEADLINE_ALONE
    rain: RainSums | None = None

    @classmethod
    def of(
        cls,
        forecasts: ForecastPlan,
        store: Store,
        variables: Sequence[Variable],
        methods: Mapping[str, tuple[str, ...]],
        scales: Mapping[str, tuple[float, float]],
        regions: tuple[Region, ...] = (),
        pictured: int = 0,
        chosen: ChosenScores = HEADLINE_ALONE,
        rain: RainSums | None = None,
    ) -> "ScorePlan":
        """The plan of forecasts from a store's frames; a picture beyond the last sample counts from the first again."""
        return cls(
            forecasts,
            lead_times(store, forecasts),
            tuple(variables),
            methods,
            (*(regions or (whole(store.grid),)), *chosen.regions(store.grid)),
            np.array([scales[variable.key] for variable in variables]).reshape(len(variables), 2),
            store.grid,
            pictured % math.prod(forecasts.sample_shape),
            chosen,
            rain,
        )

    @property
    def whole(self) -> PlanPart:
        """All samples and lead times."""
        return PlanPart(slice(0, math.prod(self.forecasts.sample_shape)), slice(0, len(self.lead_times)))

    def samples_of(self, batch: StartBatch) -> slice:
        """Where a batch's forecasts are among the samples: plans deal them so that they follow each other."""
        one, plan = batch.samples[0], self.forecasts
        position = plan.trajectories.index(one.trajectory) * len(plan.starts) + plan.starts.index(one.start)
        if plan.members:
            position = position * len(plan.members) + plan.members.index(one.member)
        return slice(position, position + len(batch.samples))

    @property
    def everything(self) -> tuple[str, ...]:
        """The truth and the methods."""
        return TRUTH, *self.methods

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """(V,) the keys of the variables."""
        return keys(self.variables)

    @cached_property
    def prognostic(self) -> Ints:
        """Positions of the variables that a forecast starts from."""
        return np.array(
            [self.keys.index(key) for key in keys(with_role(self.variables, "prognostic"))], np.int64
        )

    @cached_property
    def shown(self) -> Ints:
        """Positions of the lead times of which maps, pictures and spectra are kept: spread evenly, first and last."""
        count = len(self.lead_times)
        return np.unique(np.rint(np.linspace(0, count - 1, min(SHOWN, count))).astype(np.int64))

    @cached_property
    def thinned(self) -> Ints:
        """Positions of the lead times of which there are spectra, invariants and histograms: all, or spread evenly.

        Those shown are among them.
        """
        count = len(self.lead_times)
        # The first and the last are shown as well, so that this many and the others shown are `THINNED` at most.
        spread = THINNED - SHOWN + 2 if count > THINNED else count
        evenly = np.rint(np.linspace(0, count - 1, spread)).astype(np.int64)
        return np.union1d(evenly, self.shown)

    @cached_property
    def spectra(self) -> FrameSpectra | None:
        """The transform of the grid; None where it has no wavenumbers."""
        return (
            SphereSpectra.on(self.grid) if self.chosen.spectra == "spherical" else FrameSpectra.of(self.grid)
        )

    @cached_property
    def bands(self) -> tuple[tuple[int, int], ...]:
        """First wavenumber of each band and the one behind its last; at the end the last octave of all axes."""
        if self.spectra is None:
            return ()
        count = len(self.spectra.wavenumbers)
        last = min(resolved(self.grid), count - 1)
        bounds = [*(edge for edge in BAND_EDGES if edge < count), count]
        return *pairwise(bounds), (last // 2 + 1, last + 1)

    @cached_property
    def extra(self) -> ExtraSums:
        """What is gathered beyond the sums of points."""
        return self.chosen.extra_sums(self.grid, self.scales, self.rain)

    @cached_property
    def quantities(self) -> tuple[str, ...]:
        """What the equations may conserve, as far as the variables determine it."""
        return quantity_names(self.keys, self.grid)

    def positions(self, method: str) -> Ints:
        """Where a method's variables are among all."""
        return np.array([self.keys.index(key) for key in self.variables_of(method)], np.int64)

    def variables_of(self, method: str) -> tuple[str, ...]:
        """The keys of a method's variables."""
        return self.keys if method == TRUTH else self.methods[method]

    def quantities_of(self, method: str) -> tuple[str, ...]:
        """The quantities of a method: all or none, since momentum without mass is another quantity of the same name."""
        return self.quantities if set(self.variables_of(method)) == set(self.keys) else ()

    def sizes(self, method: str, part: PlanPart) -> dict[str, int]:
        """The length of each dimension of a method's arrays, for a part of the plan."""
        return {
            "sample": part.samples.stop - part.samples.start,
            "lead_time": part.leads.stop - part.leads.start,
            "shown": len(self.shown_in(part)),
            "thinned": len(self.thinned_in(part)),
            "picture": int(part.samples.start <= self.pictured < part.samples.stop),
            "region": len(self.regions),
            "variable": len(self.variables_of(method)),
            "statistic": len(STATISTICS),
            "entry": self.extra.width,
            "wavenumber": len(self.spectra.wavenumbers) if self.spectra else 0,
            "band": len(self.bands),
            "quantity": len(self.quantities_of(method)),
            "bin": BINS + 2,
            "map": len(MAPS),
            "field": len(FIELDS),
            "y": self.grid.shape[0],
            "x": self.grid.shape[1],
        }

    def shown_in(self, part: PlanPart) -> Ints:
        """Those of the shown lead times that are in a part."""
        return _inside(self.shown, part.leads)

    def thinned_in(self, part: PlanPart) -> Ints:
        """Those of the thinned lead times that are in a part."""
        return _inside(self.thinned, part.leads)


def _inside(positions: Ints, leads: slice) -> Ints:
    inside: Ints = positions[(positions >= leads.start) & (positions < leads.stop)]
    return inside
