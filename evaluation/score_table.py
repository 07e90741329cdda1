"""Score table: what a command prints of scores.json: numbers with intervals, and a convention's headline."""

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

WIDTH = 100


def describe_estimate(estimate: Mapping[str, Any]) -> str:
    """A number with its interval; what is no number is infinite or undefined.

    >>> describe_estimate({"value": 0.03121, "low": 0.028, "high": None, "n": 8, "failed": 1})
    '0.03121 [0.028, -]'
    >>> describe_estimate({"value": 0.03121, "low": None, "high": None, "n": 8, "failed": 0})
    '0.03121'
    """
    value, low, high = (_number(estimate[name]) for name in ("value", "low", "high"))
    return value if (low, high) == ("-", "-") else f"{value} [{low}, {high}]"


def interval_lines(scores: Mapping[str, Any]) -> list[str]:
    """The headline of each method with its intervals, and how these were made."""
    resampling, methods = scores["resampling"], scores["methods"]
    width = max(len(name) for name in methods)
    few = ", too few to rely on" if resampling["few_blocks"] else ""
    if not resampling["replicates"]:
        return [
            "no intervals: all forecasts depend on each other, so that none can be drawn without the others"
        ]
    lines = [
        f"{100 * resampling['level']:g} % intervals over {resampling['blocks']} blocks of forecasts"
        f" (by {resampling['block']}){few}"
    ]
    for name, values in methods.items():
        shown = (f"{label} {describe_estimate(values['intervals'][what])}" for what, label in _SHOWN)
        lines.append(f"  {name:<{width}}  {', '.join(shown)}")
    return lines


_SHOWN = (("one_step", "one step"), ("rollout", "rollout"), ("pooled_relative_l2", "pooled relative L2"))


def convention_lines(scores: Mapping[str, Any]) -> list[str]:
    """The headline of the chosen convention, what it means, and which methods differ; nothing where none was chosen."""
    if "convention" not in scores:
        return []
    convention, units = scores["convention"], scores["units"]
    weights = "equal weights" if convention["points"] == "equal" else "weights by cell area"
    lines = [f"convention {convention['name']}: {convention['fields']} fields, {weights}"]
    for score in convention["headline"]:
        lines += _headline(score, convention["methods"], units)
    # How simple baselines differ from each other stands in scores.json alone.
    models = scores["models"]
    lines += [
        f"  {test['first']} less {test['second']} in {test['score']}: {describe_estimate(test['difference'])}"
        f" (p by Wilcoxon {_number(test['wilcoxon_p'])}, by signs {_number(test['sign_p'])})"
        for test in convention["comparisons"]
        if test["first"] in models or test["second"] in models
    ]
    return lines


def chosen_lines(scores: Mapping[str, Any]) -> list[str]:
    """The scores that were asked for by name, what they mean, and what is not to be had; nothing where none was."""
    methods = {name: values for name, values in scores["methods"].items() if "scores" in values}
    lines = ["scores that were asked for"]
    for score in dict.fromkeys(one for values in methods.values() for one in values["scores"]):
        lines += _headline(score, methods, scores["units"])
    lines += [
        f"  {name} has no {', '.join(values['without'])}"
        for name, values in methods.items()
        if values["without"]
    ]
    return lines if len(lines) > 1 else []


def _headline(score: str, methods: Mapping[str, Any], units: Mapping[str, str]) -> Iterator[str]:
    known = {name: values["scores"][score] for name, values in methods.items() if score in values["scores"]}
    if not known:
        yield f"  {score}: not to be had of these forecasts"
        return
    meaning = f"{score}: {next(iter(known.values()))['meaning']}"
    yield from textwrap.wrap(meaning, WIDTH, initial_indent="  ", subsequent_indent="    ")
    width = max(len(name) for name in known)
    for name, one in known.items():
        failed = _failed(one)
        note = f"  {failed} failed" if failed else ""
        if "value" in one:
            yield f"  {name:<{width}}  {describe_estimate(one)}{note}"
            continue
        cells = (f"{group} {_ends(values['by_lead_time'])}" for group, values in one["groups"].items())
        yield f"  {name:<{width}}  first to last lead time: {', '.join(cells)}{note}"


def _ends(curve: Mapping[str, list[float | None]]) -> str:
    first, last = (
        describe_estimate({name: curve[name][place] for name in ("value", "low", "high")})
        for place in (0, -1)
    )
    return first if len(curve["value"]) == 1 else f"{first} to {last}"


def _failed(score: Mapping[str, Any]) -> int:
    """The most forecasts that failed at any lead time of any group."""
    return max(int(max(group["by_lead_time"]["failed"])) for group in score["groups"].values())


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def horizon_lines(scores: Mapping[str, Any]) -> list[str]:
    """The horizons of each method, in the store's units of time."""
    lines, units = [], "" if scores["time_units"] == "1" else f" {scores['time_units']}"
    for method, values in scores["methods"].items():
        for name, one in values.get("horizons", {}).items():
            beyond = "" if one["median"]["value"] is not None else " (beyond the last lead time)"
            percent = {end: _percent(one["share"][end]) for end in ("value", "low", "high")}
            share = describe_estimate(percent)
            lines.append(
                f"  {method}: {name} {describe_estimate(one['median'])}{units}{beyond},"
                f" reached by {share} % of the forecasts"
            )
    return ["horizons, medians over forecasts", *lines] if lines else []


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
