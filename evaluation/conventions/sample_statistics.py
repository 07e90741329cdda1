"""Sample statistics: what is known of every forecast at every lead time, of which scores are functions."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from pelagos.evaluation.forecast_schema import variables_by_group
from pelagos.preprocessing.array_types import Flags, Floats
from pelagos.preprocessing.errors import DataError

WINDOW = 64
"""Lead times of a window."""


@dataclass(frozen=True, eq=False)
class SampleStatistics:
    """Statistics of forecasts, one by one. S samples, L lead times, V variables.

    Attributes:
        arrays: statistic -> (S, L, V, ...) sums over the points of a field; axes beyond V are wavenumbers, ranks or
            thresholds.
        group: variable -> score group, in the order of V.
        lead_times: (L,).
    """

    arrays: Mapping[str, Floats]
    group: Mapping[str, str]
    lead_times: Floats

    @property
    def failed(self) -> Flags:
        """(S, L, V) whether a forecast is not a number somewhere where there is a truth."""
        return np.asarray(np.isposinf(self.array("max_absolute_error")))

    @property
    def variables(self) -> tuple[str, ...]:
        """The names along V."""
        return tuple(self.group)

    @property
    def groups(self) -> tuple[str, ...]:
        """The score groups in order of appearance."""
        return tuple(variables_by_group(dict(self.group)))

    def array(self, name: str) -> Floats:
        """(S, L, V, ...) one statistic.

        Raises:
            DataError: it was not gathered.
        """
        if name not in self.arrays:
            raise DataError(f"the statistic {name!r} was not gathered; there are {', '.join(self.arrays)}")
        return self.arrays[name]

    def windows(self) -> "Iterator[SampleStatistics]":
        """The same in windows of lead times, since a thousand drawings of all would fill the memory."""
        for first in range(0, len(self.lead_times), WINDOW):
            leads = slice(first, first + WINDOW)
            arrays = {name: array[:, leads] for name, array in self.arrays.items()}
            yield SampleStatistics(arrays, self.group, self.lead_times[leads])

    def has(self, names: tuple[str, ...]) -> bool:
        """Whether all of these were gathered."""
        return all(name in self.arrays for name in names)

    def members(self, pooled: bool) -> dict[str, list[int]]:
        """Group -> positions of its variables; every variable is its own group unless they are pooled."""
        order = {name: position for position, name in enumerate(self.group)}
        if not pooled:
            return {name: [position] for name, position in order.items()}
        return {
            group: [order[name] for name in names]
            for group, names in variables_by_group(dict(self.group)).items()
        }
