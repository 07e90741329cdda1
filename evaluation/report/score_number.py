"""Score number: one number of a report with its interval, and lines of them over lead time."""

from collections.abc import Iterator
from dataclasses import dataclass

from pelagos.preprocessing.array_types import Floats


@dataclass(frozen=True)
class ScoreNumber:
    """One number.

    Attributes:
        method: whose forecasts.
        region: that it is taken over.
        field: the variable group; `all` for the mean over groups.
        score: its name.
        units: of it; empty for a chosen score, whose meaning stands in scores.json.
        lead_time: in the store's units of time; None for the mean over lead times.
        value: of all forecasts.
        low: end of its 95 % interval.
        high: end of the interval.
        forecasts: that have a value.
        failed: of these, how many are not numbers somewhere.
    """

    method: str
    region: str
    field: str
    score: str
    units: str
    lead_time: float | None
    value: float
    low: float
    high: float
    forecasts: int
    failed: int


@dataclass(frozen=True, eq=False)
class ScoreLines:
    """One score of some groups and lead times: a long forecast has so many numbers that each cannot be an object.

    Attributes:
        region: that it is taken over.
        score: its name.
        groups: the variable groups.
        units: of each group.
        lead_times: None for the mean over them.
        values: (L, G, 5) value, low, high, forecasts, failed.
    """

    region: str
    score: str
    groups: tuple[str, ...]
    units: tuple[str, ...]
    lead_times: tuple[float | None, ...]
    values: Floats

    def numbers(self, method: str) -> Iterator[ScoreNumber]:
        """The numbers, lead time by lead time of each group."""
        for place, (group, units) in enumerate(zip(self.groups, self.units, strict=True)):
            for time, row in zip(self.lead_times, self.values[:, place].tolist(), strict=True):
                value, low, high, number, failed = row
                about = method, self.region, group, self.score, units, time
                yield ScoreNumber(*about, value, low, high, int(number), int(failed))
