"""Report facts: what a report says beyond scores: where data, models and code come from, training, single forecasts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import xarray as xr


@dataclass(frozen=True, eq=False)
class Case:
    """One forecast to be drawn.

    Attributes:
        label: which one it is.
        dates: of its lead times, empty where the calendar is not known.
        fields: the truth and methods -> (lead_time, y, x) fields.
    """

    label: str
    dates: tuple[str, ...]
    fields: Mapping[str, xr.Dataset]


@dataclass(frozen=True, eq=False)
class ReportFacts:
    """What is known of an evaluation besides its scores.

    Attributes:
        data: of the store, by label.
        models: method -> what is known of its model, by label.
        code: versions, by label.
        configuration: of the evaluation, as YAML.
        training: run -> the records of its metrics.
        case: reads one forecast by its number among the samples; None where forecasts or store are not there.
        missing: what the report would have shown and cannot, in sentences.
        reach: frames from a start to the end of its forecast; 0 where it is not known.
        files: name -> a file of numbers beside the report.
    """

    data: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)
    configuration: str = ""
    training: Mapping[str, Sequence[Mapping[str, float]]] = field(default_factory=dict)
    case: Callable[[int], Case] | None = None
    missing: Sequence[str] = ()
    reach: int = 0
    files: Sequence[str] = ()


NO_FACTS = ReportFacts()
"""Of forecasts in memory."""
