"""Chosen scores: the convention and the scores that an evaluation was asked for, and what they are made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pelagos.evaluation.conventions.score_catalogue import QUANTILES, THRESHOLDS, ScoreName, definitions
from pelagos.evaluation.conventions.score_convention import CONVENTIONS, ConventionName
from pelagos.evaluation.conventions.score_definition import ScoreDefinition
from pelagos.evaluation.frame_sums.ensemble_sums import RANKS
from pelagos.evaluation.frame_sums.extra_sums import ANOMALIES, ExtraSums
from pelagos.evaluation.frame_sums.rain_sums import RainSums
from pelagos.evaluation.streaming.rain_history import RainConfig
from pelagos.evaluation.streaming.region import WHOLE, Region
from pelagos.evaluation.streaming.sphere_spectra import SpectraName
from pelagos.preprocessing.array_types import Floats
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.store.store import Store
from pelagos.preprocessing.variables import Variable

EQUAL = "(equal points)"
"""The whole domain with points that weigh the same, where a convention has them so; no region of a user's."""


@dataclass(frozen=True)
class ChosenScores:
    """What is computed beside the headline.

    Attributes:
        convention: of a benchmark.
        names: of single scores.
        members: of the ensemble.
        rain: how SEEPS and FSS see it, where one of them is among the names.
        spectra: of fields on latitudes.
    """

    convention: ConventionName | None = None
    names: tuple[ScoreName, ...] = ()
    members: int = 1
    rain: RainConfig | None = None
    spectra: SpectraName = "zonal"

    @cached_property
    def definitions(self) -> tuple[ScoreDefinition, ...]:
        """Those of the names."""
        rain = self.rain.thresholds if self.rain else ()
        return tuple(one for name in self.names for one in definitions(name, self.members, rain))

    @cached_property
    def needs(self) -> frozenset[str]:
        """The statistics of all scores."""
        preset = CONVENTIONS[self.convention].scores if self.convention else ()
        ranks = {RANKS} if "rank_histogram" in self.names else set()
        return frozenset(name for one in (*preset, *self.definitions) for name in one.needs) | ranks

    @property
    def anomalies(self) -> bool:
        """Whether a climatology has to be fitted."""
        return not self.needs.isdisjoint(ANOMALIES)

    def rain_sums(self, store: Store, variables: Sequence[Variable], split: str) -> RainSums | None:
        """What SEEPS and FSS are made of; None where neither was chosen. Raises as `RainConfig.sums`."""
        if self.rain is None or not {"seeps", "fss"} & set(self.names):
            return None
        return self.rain.sums(store, variables, split, seeps="seeps" in self.names)

    def extra_sums(self, grid: Grid, scales: Floats, rain: RainSums | None = None) -> ExtraSums:
        """What is gathered beyond the sums of points.

        Args:
            grid: of all fields.
            scales: (V, 2) mean and deviation of each variable.
            rain: of what SEEPS and FSS are made.
        """
        thresholds = scales[:, :1] + scales[:, 1:] * np.array(THRESHOLDS)
        return ExtraSums.of(self.needs, grid, grid.area_weights(), thresholds, QUANTILES, self.members, rain)

    def region(self, grid: Grid) -> str:
        """The name of the region that the convention is computed over."""
        if self.convention is None or CONVENTIONS[self.convention].points == "cell areas":
            return WHOLE
        return WHOLE if np.all(grid.area_weights() == 1) else EQUAL

    def regions(self, grid: Grid) -> tuple[Region, ...]:
        """The regions that are needed besides those of the user."""
        if self.region(grid) == WHOLE:
            return ()
        rows, columns = grid.shape
        return (Region(EQUAL, np.ones(grid.shape), slice(0, rows), slice(0, columns)),)


HEADLINE_ALONE = ChosenScores()
"""Nothing but what is always computed."""
