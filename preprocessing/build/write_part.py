"""Writing one part of a build: it is read, checked, written while it is measured, and recorded last.

Shapes: N trajectories, T times, C channels, H rows, W columns.
"""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.array_types import Float32s
from pelagos.preprocessing.assumptions import Assumption, collect, recorded
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.duplicate_starts import initial_digests
from pelagos.preprocessing.build.partition import Part
from pelagos.preprocessing.build.plan import Plan
from pelagos.preprocessing.build.store_coding import StoreCoding, code_block, read_coding
from pelagos.preprocessing.channel_statistics.measures import Measures, measure_block
from pelagos.preprocessing.channel_statistics.rounding import Rounding
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.fields.store_channel import StoreChannel
from pelagos.preprocessing.files import durable
from pelagos.preprocessing.files.durable import Checksum
from pelagos.preprocessing.store.coding import Halves
from pelagos.preprocessing.store.shard_layout import ShardLayout
from pelagos.preprocessing.store.shard_writer import write_shard

PLAN = Path("_build", "plan.json")
"""Where a growing store records what it is built from."""
PROGRESS = Path("_build", "shards")
"""Where a growing store records its finished parts."""


@dataclass(frozen=True, eq=False)
class PartRecord:
    """What is recorded of a finished part.

    Attributes:
        fingerprint: fingerprint of the plan.
        files: checksums of its shards, by path in the store.
        measures: its share of the statistics.
        rounding: (C,) largest relative error of mantissa rounding.
        initial_digests: digests of the initial conditions of the trajectories that begin in the part.
        assumptions: what was assumed while it was read.
        coding: what 16 bits changed in its state and in the static fields that it writes; None in float32.
    """

    fingerprint: str
    files: dict[str, Checksum]
    measures: Measures
    rounding: NDArray[np.float64]
    initial_digests: list[str]
    assumptions: tuple[Assumption, ...] = ()
    coding: tuple[Rounding, Rounding] | None = None


def recorded_initial_digests(root: Path, config: BuildConfig) -> list[str]:
    """Digests of the initial conditions recorded by an unfinished build of this configuration, if any."""
    if not (root / PLAN).exists():
        return []
    values = json.loads((root / PLAN).read_bytes())
    found: list[str] = values.get("beginnings", [])
    return found if config.makes(values["config"]) else []


def read_record(root: Path, plan: Plan, part: Part) -> PartRecord | None:
    """The record of a part; None where it was not finished under this plan."""
    values = _recorded(root, plan, part)
    if values is None:
        return None
    return PartRecord(
        fingerprint=values["fingerprint"],
        files={path: Checksum(**fields) for path, fields in values["files"].items()},
        measures=Measures.from_json(values["measures"], plan.state.frame),
        rounding=np.array(values["rounding"]),
        # Builds begun by an early version have neither.
        initial_digests=values.get("beginnings", []),
        assumptions=recorded(values.get("assumptions")) or (),
        coding=_roundings(values["coding"]) if "coding" in values else None,
    )


def _roundings(values: list[dict[str, Any]]) -> tuple[Rounding, Rounding]:
    state, static = map(Rounding.from_json, values)
    return state, static


def _recorded(root: Path, plan: Plan, part: Part) -> dict[str, Any] | None:
    try:
        values: dict[str, Any] = json.loads((root / PROGRESS / f"{part.name}.json").read_bytes())
    except FileNotFoundError:
        return None
    return values if values["fingerprint"] == plan.fingerprint else None


def num_recorded(root: Path) -> int:
    """How many parts are recorded, without a look into their records."""
    with os.scandir(root / PROGRESS) as entries:
        return sum(entry.name.endswith(".json") for entry in entries)


def is_written(root: Path, plan: Plan, part: Part) -> bool:
    """Whether a part is recorded and its files still have the recorded size; where it is asked for, the CRC-32C too."""
    # Of the record no more than that: the mask of a shard may have 72 MB.
    values = _recorded(root, plan, part)
    return values is not None and all(
        _agrees(root / path, Checksum(**expected), whole=plan.config.check_finished)
        for path, expected in values["files"].items()
    )


def _agrees(file: Path, expected: Checksum, *, whole: bool) -> bool:
    try:
        size = file.stat().st_size
    except FileNotFoundError:
        return False
    return size == expected.bytes and (not whole or durable.crc32c(file) == expected.crc32c)


def shard_files(plan: Plan, part: Part) -> list[str]:
    """The paths in the store of the shards that a part writes: the state's and, if any, the static one."""
    state, cell = f"state/{plan.state.key((*part.cell, 0, 0, 0))}", plan.static_cell(part)
    return [state] if cell is None else [state, f"static/{plan.static.key(cell)}"]


def write_part(root: Path, plan: Plan, part: Part) -> PartRecord:
    """Write a part's shards and then its record; doing so again gives the same bytes.

    Raises:
        DataError: a value is infinite, or missing where that is an error.
        DamagedFileError: the source cannot be read.
    """
    fields, rows, (start, stop) = plan.fields, slice(*part.trajectories), part.times
    # The statistics of differences need the frame before, too. A shard that does not begin a trajectory holds
    # one trajectory only, so what remains without that frame is contiguous.
    with collect() as assumptions:
        frames = fields.read(rows, slice(max(0, start - 1), stop))
        has_static = plan.static_cell(part) is not None
        static = fields.read_static(rows) if has_static else np.empty((0, *plan.static.frame), np.float32)
    rounding = fields.round(frames)
    before, block = (frames[:, :1], frames[:, 1:]) if start else (frames[:0, :1], frames)
    # Why a value that the file does hold is missing: it may lie outside the valid range.
    why = next((one.text for one in assumptions.all if one.code == "missing_values"), "")
    check_values(plan, fields.state, block, part, plan.present(part), why)
    check_values(plan, fields.static, static[:, None], part, np.ones((len(static), 1), bool), why)
    first = [] if start else initial_digests(block, fields.state)
    coding = read_coding(root)
    coded, roundings = (
        _coded(coding, plan, part, (block, static, before)) if coding else ((block, static), None)
    )
    contents = zip(shard_files(plan, part), zip(coded, (plan.state, plan.static), strict=True), strict=False)
    with ThreadPoolExecutor(max_workers=1) as beside:
        # Statistics are computed while this thread waits for the disk.
        measuring = beside.submit(measure_part, plan, part, block, static, before)
        checksums = {path: _write(root / path, values, layout) for path, (values, layout) in contents}
        measures = measuring.result()
    record = PartRecord(plan.fingerprint, checksums, measures, rounding, first, assumptions.all, roundings)
    _write_record(root / PROGRESS / f"{part.name}.json", record)
    return record


def _coded(
    coding: StoreCoding, plan: Plan, part: Part, values: tuple[Float32s, Float32s, Float32s]
) -> tuple[tuple[Halves, Halves], tuple[Rounding, Rounding]]:
    """The block and the static fields in 16 bits; they and the frame before become what is stored of them."""
    block, static, before = values
    fields = plan.fields
    state, of_state = code_block(
        block,
        coding.state,
        lambda n, t, c: _place(plan, fields.state[c], part, n, t),
        before[0, 0] if len(before) else None,
    )
    fixed, of_static = code_block(
        static[:, None], coding.static, lambda n, t, c: _place(plan, fields.static[c], part, n, t), None
    )
    return (state, fixed[:, 0]), (of_state, of_static)


def measure_part(plan: Plan, part: Part, block: Float32s, static: Float32s, before: Float32s) -> Measures:
    """A part's share of the statistics.

    Args:
        plan: plan of the build.
        part: part of that plan.
        block: (N, T, C, H, W) the part's frames as stored.
        static: (N, C, H, W) the static fields that the part writes.
        before: (N, 1, C, H, W) the frames before the part; N is 0 where it begins its trajectories.
    """
    training, start = plan.training[slice(*part.trajectories)], part.times[0]
    static_missing = int(np.isnan(static).sum())
    if plan.fields.varying_static:
        static = static[np.asarray(training.any(axis=1))[: len(static)]]
    measures = measure_block(
        block,
        static,
        training[:, slice(*part.times)],
        plan.present(part),
        before.reshape(-1, *plan.state.frame),
        training[:, start - 1] if start else training[:0, 0],
    )
    return replace(measures, num_missing=measures.num_missing + static_missing)


def check_values(
    plan: Plan,
    channels: Sequence[StoreChannel],
    block: Float32s,
    part: Part,
    present: NDArray[np.bool_],
    why: str = "",
) -> None:
    """Raise DataError for the first value of the present frames (N, T) of (N, T, C, H, W) that may not be stored.

    Args:
        plan: of the build.
        channels: of the block.
        block: the values.
        part: which the block is of.
        present: which frames exist.
        why: what made values missing, where that is known.
    """
    for n, t, c in np.ndindex(block.shape[:3]):
        values = block[n, t, c]
        if not present[n, t] or np.isfinite(values).all():
            continue
        bad = np.isinf(values) if plan.config.missing == "keep" else ~np.isfinite(values)
        if bad.any():
            y, x = (int(axis) for axis in np.argwhere(bad)[0])
            raise DataError(
                _place(plan, channels[c], part, n, t) + f", y {y}, x {x}: {_advice(values[y, x], why)}"
            )


def _place(plan: Plan, channel: StoreChannel, part: Part, n: int, t: int) -> str:
    fields = plan.fields
    trajectory, frame = part.trajectories[0] + n, part.times[0] + t
    files = ", ".join(fields.sources[:2]) + (", ..." if len(fields.sources) > 2 else "")
    where = f"{files or plan.config.dataset}: {channel.variable.key}, trajectory {trajectory}"
    return where if channel.variable.role == "static" else f"{where}, time {frame} ({fields.axis[frame]})"


def _advice(value: np.float32, why: str) -> str:
    if np.isnan(value):
        known = f"; {why}" if why else ""
        return f"the value is missing (NaN); `missing: keep` stores missing values and masks them{known}"
    return f"the value is {value} in float32; correct the source, change the units with `convert`, or its transform"


def _write(file: Path, values: NDArray[Any], layout: ShardLayout) -> Checksum:
    changed = durable.make_folder(file.parent)
    durable.remove_partials(file.parent)
    checksum = write_shard(file, values, layout)
    # Here and not when the store is complete: one process would take hours for a million of them.
    for folder in changed:
        durable.sync_directory(folder)
    return checksum


def _write_record(file: Path, record: PartRecord) -> None:
    values = {
        "fingerprint": record.fingerprint,
        "files": {path: asdict(value) for path, value in record.files.items()},
        "measures": record.measures.to_json(),
        "rounding": record.rounding.tolist(),
        "beginnings": record.initial_digests,
        "assumptions": [one.to_json() for one in record.assumptions],
        **({"coding": [one.to_json() for one in record.coding]} if record.coding else {}),
    }
    durable.write_bytes(file, json.dumps(values, sort_keys=True, allow_nan=False).encode())
