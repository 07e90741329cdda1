"""Proposal: the format that an archive seems to have, and a build configuration to start from.

The text is valid YAML as a whole: whatever it says about the archive is in comments.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import yaml
from numpy.typing import NDArray
from pydantic import ValidationError

from pelagos.preprocessing.assumptions import Assumption, collect, describe
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.file_feeds import describe_feeds
from pelagos.preprocessing.build.plan import Plan, make_plan, with_survey
from pelagos.preprocessing.errors import DataError, PelagosError
from pelagos.preprocessing.fields.survey import Survey, table
from pelagos.preprocessing.files.location import Url, locate
from pelagos.preprocessing.quantities import dates
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.file_source import FileSource
from pelagos.preprocessing.sources.finding import ArchiveListing, Finding
from pelagos.preprocessing.sources.formats.recognition import recognise

_SHARES = (0.8, 0.1)
"""The shares of training and validation in the proposed splits; the rest tests."""
_SHOWN = 40
"""The most channels of which the values are listed."""


@dataclass(frozen=True)
class Proposal:
    """What an archive is taken for, and a configuration to build it.

    Attributes:
        finding: of the format that it is taken for.
        others: what else it may be.
        values: of the configuration.
        ask: a question for each option of the source that has to be set.
        remarks: what there is to say about it, line by line.
    """

    finding: Finding
    others: tuple[Finding, ...]
    values: Mapping[str, Any]
    ask: Mapping[str, str]
    remarks: Sequence[str]

    def text(self) -> str:
        """The configuration in YAML, with the remarks in comments."""
        return "".join(f"# {line}".rstrip() + "\n" for line in self.remarks) + _yaml(self.values, self.ask)

    def facts(self) -> dict[str, Any]:
        """The same for JSON."""
        return {
            "type": "archive",
            "kind": self.finding.kind,
            "confidence": self.finding.confidence,
            "evidence": self.finding.evidence,
            "others": [other.kind for other in self.others],
            "ask": dict(self.ask),
            "configuration": dict(self.values),
            "remarks": list(self.remarks),
        }


def propose(path: str | Path) -> str:
    """The text of `proposal_of` an archive; raises as it does."""
    return proposal_of(path).text()


def proposal_of(path: str | Path, given: Mapping[str, Any] | None = None) -> Proposal:
    """A configuration for `pelagos build`, with the evidence for it.

    Args:
        path: of the archive.
        given: values of the configuration that the user has decided on.

    Raises:
        MissingFileError: there is nothing at `path`.
        DamagedFileError: the archive cannot be read.
        DataError: no format recognises the archive.
    """
    given = dict(given or {})
    source = dict(given.pop("source", {}))
    # Shares of splits whose kind is left to the proposal.
    shares = given.pop("splits") if "kind" not in given.get("splits", {"kind": ""}) else {}
    seen, findings = recognise(path)
    if kind := source.get("kind"):
        own = [one for one in findings if one.kind == kind]
        others = [one for one in findings if one.kind != kind]
        findings = [*(own or [Finding(kind, "certain", "said to be that")]), *others]
    if not findings:
        raise DataError(_unknown(seen))
    best = findings[0]
    head = [f"{path}: {best.confidence} {best.kind}", f"because it is {best.evidence}"]
    if (count := len(FileSource(paths=(seen.paths,)).places())) > 1:
        head.append(f"as the first of its {count} files says, {seen.path.name}")
    head += [f"it may also be {other.kind}: {other.evidence}" for other in findings[1:]]
    values: dict[str, Any] = {
        "command": "build",
        "dataset": _identifier(best, seen),
        "source": {"kind": best.kind, "paths": seen.paths, **best.options, **source},
        **given,
    }
    ask = {option: question for option, question in best.ask.items() if option not in source}
    if ask:
        asked = [f"  source.{option}: {question}" for option, question in ask.items()]
        head += ["", "before it can be built, say below or as KEY=VALUE:", *asked]
        values |= {"splits": shares} if shares else {}
    else:
        described, more = _tried(values, shares)
        head, values = head + described, {**values, **more, **given}
    return Proposal(best, tuple(findings[1:]), values, ask, head)


def _yaml(values: Mapping[str, Any], ask: Mapping[str, str]) -> str:
    """The configuration as YAML, with a commented line for each option of the source that must be set."""
    parts = []
    for key, value in values.items():
        parts.append(yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True, width=100))
        if key == "source":
            parts += [f"  # {option}:  # {question}\n" for option, question in ask.items()]
    return "".join(parts)


def _tried(values: Mapping[str, Any], shares: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """What the archive holds, whether it can be built, and further options; opens it and reads some frames."""
    try:
        with collect():  # the plan below opens it again, and collects the same
            ds = _validated(values).source.open()
        more: dict[str, Any] = {} if "splits" in values else {"splits": {**_splits(ds), **shares}}
        # Before any value is read: it refuses fields without frames where others have some.
        plan = with_survey(make_plan(_validated({**values, **more})))
        assert plan.survey is not None
        refused = [*_refused(plan.survey, values)]
        with collect():  # the survey has met the same
            misses = _misses(ds) or any(one.missing for one in plan.survey.channels)
        more = {"missing": "keep"} | more if misses else more
    except PelagosError as error:
        return ["", "before it can be built, this has to be settled:", f"  {error}"], {}
    fields = ", ".join(f"{name} ({ds[name].attrs['role']})" for name in ds.data_vars)
    times = f"{ds.sizes['time']} times from {_shown(ds, 0)} to {_shown(ds, -1)}"
    if "present" in ds.coords:
        times += f", at least {int(ds.present.sum('time').min())} of them in each"
    shape = f"{ds.sizes['y']} x {ds.sizes['x']} points, {ds.sizes['trajectory']} trajectories, {times}"
    sides = f"beyond the edges: y {ds.attrs['boundary_y']}; x {ds.attrs['boundary_x']}"
    axes = [f"{axis}: {describe_axis(ds[axis].values)}" for axis in ("time", "y", "x")]
    head = [f"it holds {fields}", shape, sides, *axes, *_planes(ds), *describe_feeds(plan.feeds)]
    return [*head, "", *_values(plan), "", *_verdict(plan.assumptions, refused)], more


def _values(plan: Plan) -> list[str]:
    """What the values are, of each channel."""
    assert plan.survey is not None
    lines = [*table(plan.survey)]
    shown = lines[: _SHOWN + 1]
    rest = [f"... and {len(lines) - len(shown)} more"] if len(lines) > len(shown) else []
    return [f"values, in {plan.survey.extent}:", *shown, *rest]


def _refused(survey: Survey, values: Mapping[str, Any]) -> Iterator[str]:
    """The fields with values that a build refuses when it meets them, and what would be right."""
    for channel in survey.channels:
        key = channel.variable.key
        if channel.overflows:
            yield (
                f"{key} has values that are infinite in float32 (in {survey.extent}: down to {channel.minimum:.6g}, up"
                f" to {channel.maximum:.6g}): correct the source, or change the units with convert, or its transform"
            )
        # Proposed otherwise, but the user may have decided.
        if channel.missing and values.get("missing") == "error":
            yield f"{key} has missing values, {channel.missing:.2%} in {survey.extent}: set missing: keep"


def _verdict(assumptions: Sequence[Assumption], refused: Sequence[str]) -> list[str]:
    """Whether it can be built as it is, and what the build would assume."""
    asked = [one for one in assumptions if one.question]
    taken = [one for one in assumptions if not one.question]
    lines = []
    if taken:
        lines += [
            "a build assumes, unless told otherwise (docs/assumptions.md):",
            *describe(taken).splitlines(),
            "",
        ]
    if refused:
        lines += ["before it can be built, this has to be settled:", *(f"  {one}" for one in refused)]
    if asked:
        return [*lines, "before it can be built, say what is right:", *describe(asked).splitlines()]
    if refused:
        return lines
    # As tried above: make_plan checks everything that can be checked before reading.
    return [*lines, "pelagos build accepts this as it is"]


def describe_axis(values: NDArray[Any]) -> str:
    """The ends of an axis, how many points it has and how far apart they are, dates in hours."""
    dated = dates.is_dated(values)
    ends = [dates.text_of(end) if dated else f"{end:g}" for end in values[[0, -1]]]
    if len(values) < 2:
        return f"{ends[0]} only"
    steps, unit = (np.diff(dates.seconds(values)) / 3600, " h") if dated else (np.diff(values), "")
    even = np.allclose(steps, steps[0], rtol=1e-3, atol=0)
    spacing = f"{steps[0]:g}" if even else f"{steps.min():g} to {steps.max():g}"
    return f"{ends[0]} to {ends[1]}, {len(values)} points {spacing}{unit} apart"


def _shown(ds: xr.Dataset, frame: int) -> str:
    time = ds.time.values[frame]
    return str(_moment(ds, frame)) if dates.is_dated(ds.time.values) else f"{time:g}"


def _planes(ds: xr.Dataset) -> list[str]:
    """What becomes of the levels, and what lies beyond the first and last plane of 3-D fields."""
    fields = [name for name in ds.data_vars if "level" in ds[name].dims]
    if not fields:
        return []
    level, attrs = ds["level"].values, ds["level"].attrs
    what = f" ({attrs['long_name']}; beyond its ends: {attrs['boundary']})" if "boundary" in attrs else ""
    return [
        f"{len(level)} levels from {level[0]:g} to {level[-1]:g}{what}, each a channel such as"
        f" {fields[0]}@{level[0]:g};",
        "  levels: [...] or subset: {level: [least, greatest]} takes some of them",
    ]


def _validated(values: Mapping[str, Any]) -> BuildConfig:
    try:
        return BuildConfig.model_validate({key: one for key, one in values.items() if key != "command"})
    except ValidationError as error:
        raise DataError("; ".join(f"{one['loc']}: {one['msg']}" for one in error.errors())) from error


def _misses(ds: xr.Dataset) -> bool:
    """Whether the first frame of any field has missing values; of large data the survey may not read it."""
    # One frame only: a proposal must not read an archive. The build names the first value that is missing later.
    place = {"trajectory": 0, "time": 0}
    if "present" in ds.coords:
        place = dict(zip(place, np.argwhere(ds.present.values)[0].tolist(), strict=True))
    for name in convention.in_role(ds, "prognostic", "diagnostic", "forcing", "static"):
        first = ds[name].isel({dim: at for dim, at in place.items() if dim in ds[name].dims})
        if np.isnan(first.values).any():
            return True
    return False


def _splits(ds: xr.Dataset) -> dict[str, Any]:
    """Splits that validate and test on a tenth each, of the trajectories or of the times of a single one."""
    count, frames = ds.sizes["trajectory"], ds.sizes["time"]
    if count > 2:
        rest = max(1, round(_SHARES[1] * count))
        return {"kind": "trajectories", "valid": rest, "test": rest}
    # Of fewer frames a tenth is less than one.
    if count == 1 and frames > 9:
        first = round(_SHARES[0] * frames)
        second = first + max(1, round(_SHARES[1] * frames))
        one, two = (_moment(ds, i) for i in (first, second))
        return {"kind": "time", "train": [None, one], "valid": [one, two], "test": [two, None]}
    return {"kind": "trajectories"}


def _moment(ds: xr.Dataset, i: int) -> int | str:
    return dates.text_of(ds.time.values[i]) if dates.is_dated(ds.time.values) else i


def _identifier(finding: Finding, seen: ArchiveListing) -> str:
    own = str(finding.options.get("dataset") or seen.path.stem)
    remote = isinstance(locate(seen.paths), Url)
    if not remote and (seen.paths != str(seen.path) or own in ("data", "output")):
        own = str(finding.options.get("dataset") or seen.path.resolve().parent.name)
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", own).strip("_.-") or "dataset"


def _unknown(seen: ArchiveListing) -> str:
    if seen.container == "unknown" and not seen.path.stat().st_size:
        return f"{seen.path}: the file is empty; download or create it again"
    listed = ", ".join(f"{key or 'array'} {shape}" for key, shape in list(seen.shapes.items())[:10])
    what = {"unknown": "its first bytes are of no format that is read"}.get(
        seen.container, f"it is {seen.container} and holds {listed or 'nothing'}"
    )
    return (
        f"{seen.path}: no format recognises it: {what}; kind: external reads it by a class of your own, "
        "see docs/own-data.md"
    )
