"""Step ranges: the steps of a forecast that sums, means and extremes in GRIB are over."""

import re
from collections.abc import Sequence

from pelagos.preprocessing.errors import DataError

_HOURS = {"": 1.0, "h": 1.0, "m": 1 / 60, "s": 1 / 3600, "D": 24.0}
_STEP = re.compile(r"(\d+)([hmsD]?)")


def step_ranges(name: str, found: Sequence[tuple[str, str]]) -> str:
    """What the ranges of all messages of a field have in common: "start" for their first step, or their length.

    Args:
        name: of the field.
        found: each file, and its ranges such as "0-6, 0-12"; empty where it is no GRIB or instantaneous.

    Returns:
        "start", or hours such as "6 h"; empty where there are no ranges, or a single one.

    Raises:
        DataError: ranges neither begin at one step nor are equally long, so that their values cannot be compared.
    """
    texts = {text: place for place, listed in found for text in listed.split(", ") if text}
    spans = {text: span for text in texts if (span := _hours(text)) is not None}
    starts, lengths = (
        {start for start, _ in spans.values()},
        {round(end - start, 6) for start, end in spans.values()},
    )
    if len(spans) > 1 and len(starts) > 1 and len(lengths) > 1:
        ordered = sorted(spans, key=lambda text: spans[text])
        shown = ", ".join(ordered[:6]) + (", ..." if len(ordered) > 6 else "")
        length = max(
            lengths, key=lambda one: sum(round(end - start, 6) == one for start, end in spans.values())
        )
        taken = [text for text in ordered if round(spans[text][1] - spans[text][0], 6) == length]
        raise DataError(
            f"{texts[ordered[0]]}: {name} is over the steps {shown}, which neither begin at one step nor are equally"
            f" long; take those that belong together, as in select: {{stepRange: [{', '.join(taken[:4])}]}}"
        )
    if len(lengths) > 1:
        return "start"
    return f"{next(iter(lengths)):g} h" if len(starts) > 1 else ""


def _hours(text: str) -> tuple[float, float] | None:
    ends = [_STEP.fullmatch(end) for end in text.split("-")]
    if any(end is None for end in ends) or not 1 <= len(ends) <= 2:
        return None
    hours = [int(end[1]) * _HOURS[end[2]] for end in ends if end is not None]
    return hours[0], hours[-1]
