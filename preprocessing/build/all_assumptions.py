"""All assumptions of a finished build: those of its plan and of its parts, and what only all values together tell."""

from collections.abc import Iterable

import numpy as np

from pelagos.preprocessing.assumptions import Assumption, assume, collect
from pelagos.preprocessing.build.plan import Plan
from pelagos.preprocessing.channel_statistics.measures import Measures
from pelagos.preprocessing.channel_statistics.rounding import Rounding, shares
from pelagos.preprocessing.fields.survey import ask_mark, assume_constant, mark_among

_DROWNED = (
    0.05  # of the deviation of increments: a network that learns them sees 0.25 % of their variance as noise
)


def all_assumptions(
    plan: Plan,
    of_parts: Iterable[Assumption],
    measures: Measures,
    coding: tuple[Rounding, Rounding] | None = None,
) -> tuple[Assumption, ...]:
    """What a build assumed, in the order of `assumptions.KINDS`.

    Args:
        plan: of the build.
        of_parts: those of all its parts.
        measures: of all its parts together.
        coding: what 16 bits changed in the state and in the static fields; None in float32.
    """
    with collect() as found:
        # Whether a channel is constant is known now; the survey may have seen some frames only.
        found.add_all(one for one in plan.assumptions if one.code != "constant")
        found.add_all(of_parts)
        _assume_measured(
            plan,
            measures,
            {one.field for one in plan.assumptions if one.code in ("spikes", "missing_values")},
        )
        if coding is not None:
            _assume_coding(plan, measures, coding[0])
    return found.all


def _assume_coding(plan: Plan, measures: Measures, rounding: Rounding) -> None:
    lost = shares(rounding.increment_rms, np.sqrt(measures.tendency.variance))
    of_values = shares(rounding.rms, np.sqrt(measures.state.variance))
    for channel, of_increments, of_value in zip(plan.fields.state, lost, of_values, strict=True):
        if of_increments > _DROWNED:
            assume(
                "half_precision",
                channel.variable.key,
                f"{plan.config.dataset}, all frames: 16 bits change what it gains from one frame to the next by"
                f" {of_increments:.1%} of the deviation of that, and the values by {of_value:.2%} of theirs",
            )


def _assume_measured(plan: Plan, measures: Measures, told: set[str]) -> None:
    state, where = measures.state, f"{plan.config.dataset}, all frames that train"
    constant = state.constant(state.magnitude) & (state.count > 0)
    surveyed = {channel.variable.key: channel for channel in (plan.survey.channels if plan.survey else ())}
    for number, channel in enumerate(plan.fields.state):
        key = channel.variable.key
        if constant[number]:
            assume_constant(channel.variable, float(state.mean[number]), where)
        elif not state.count[number] and plan.training.any() and key not in told:
            text = (
                f"{where}: all values are missing, so that it has no statistics and tells a network nothing"
            )
            assume("missing_values", key, text, "leave the field out by variables")
        extremes = float(state.minimum[number]), float(state.maximum[number])
        seen = surveyed.get(key)
        if not state.count[number] or key in told or not seen or not any(map(seen.is_far, extremes)):
            continue
        if (mark := mark_among(channel, extremes)) is not None:
            ask_mark(channel, mark, f"{where}: values")
        else:
            assume(
                "spikes",
                key,
                f"{where}: they reach from {extremes[0]:.4g} to {extremes[1]:.4g}, where 99.8 % of the sampled values"
                f" lie between {seen.low:.4g} and {seen.high:.4g}",
            )
