"""Plan: what a build will write, and all that can be checked before the first byte."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.assumptions import Assumption, assume, collect
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.duplicate_starts import read_initial_digests
from pelagos.preprocessing.build.file_feeds import (
    Feeds,
    count_feeds,
    file_of_frames,
    for_splits,
    say_order,
)
from pelagos.preprocessing.build.partition import (
    Part,
    Parts,
    check_partition,
    chunk_of,
    frame_layout,
    leading_shard,
)
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.fields.field_reader import FieldReader
from pelagos.preprocessing.fields.select_fields import select_fields
from pelagos.preprocessing.fields.survey import Survey, assume_survey, survey_fields
from pelagos.preprocessing.files.durable import json_checksum
from pelagos.preprocessing.sources.convention import Boundaries
from pelagos.preprocessing.sources.formats.source import Source
from pelagos.preprocessing.store.format import ABSENT, FORMAT, SPLITS, SplitCodes
from pelagos.preprocessing.store.shard_layout import ShardLayout
from pelagos.preprocessing.store.split import INITIAL_CONDITION, Split, TrajectorySplit


@dataclass(frozen=True, eq=False)
class Plan:
    """A build before its first byte.

    Attributes:
        config: the configuration as given.
        fields: the reader of the fields to store.
        codes: (trajectory, time) the split of each frame, or that it is unused or absent.
        state: layout of `state(trajectory, time, channel, y, x)`.
        static: layout of `static(trajectory, static_channel, y, x)`; its first axis is 1 where all share one.
        parts: tasks that together write every shard once.
        fingerprint: digest of what decides the content of the store.
        initial_digests: digests of all initial conditions; empty unless the splits depend on them.
        feeds: for each of several files the number of frames by split.
        assumptions: what was assumed on the way here.
        survey: what the values look like, where that was asked for.
    """

    config: BuildConfig
    fields: FieldReader
    codes: SplitCodes
    state: ShardLayout
    static: ShardLayout
    parts: Sequence[Part]
    fingerprint: str
    initial_digests: tuple[str, ...]
    feeds: Feeds = field(default_factory=dict)
    assumptions: tuple[Assumption, ...] = ()
    survey: Survey | None = None

    @property
    def training(self) -> NDArray[np.bool_]:
        """(trajectory, time) which frames train."""
        return np.asarray(self.codes == SPLITS.index("train"))

    def present(self, part: Part) -> NDArray[np.bool_]:
        """(trajectory, time) which frames of a part exist."""
        return np.asarray(self.codes[slice(*part.trajectories), slice(*part.times)] != ABSENT)

    def static_cell(self, part: Part) -> tuple[int, ...] | None:
        """The shard of static fields that a part writes; None if it writes none."""
        # The part that starts a trajectory; the very first one where all trajectories share the fields.
        first = part.cell[1] == 0 and (self.fields.varying_static or part.cell[0] == 0)
        return (part.cell[0], 0, 0, 0) if first and self.fields.static else None


def make_plan(
    config: BuildConfig,
    *,
    cut_rows: bool = True,
    initial_digests: Sequence[str] = (),
    source: Source | None = None,
) -> Plan:
    """The plan of a build, checked against the source.

    Args:
        config: what to build.
        cut_rows: whether to cut large channels along their rows, and static fields at all; stores of early
            versions did neither.
        initial_digests: digests of the initial conditions if they are known; otherwise they are read where the
            splits depend on them.
        source: the archive where it is now, if that is elsewhere than the configuration says.

    Raises:
        ConfigError: an option contradicts the data.
        DataError: the source does not follow the convention.
    """
    with collect() as assumptions:
        plan = _planned(config, cut_rows, initial_digests, source or config.source)
    return replace(plan, assumptions=assumptions.all)


def with_survey(plan: Plan) -> Plan:
    """The plan with a survey of its fields, and with what is assumed of their values.

    Raises:
        DamagedFileError: a frame that the survey reads cannot be read.
    """
    with collect() as assumptions:
        survey = survey_fields(plan.fields)
        assumptions.add_all(plan.assumptions)
        assume_survey(survey, plan.fields)
    return replace(plan, survey=survey, assumptions=assumptions.all)


def _planned(config: BuildConfig, cut_rows: bool, initial_digests: Sequence[str], source: Source) -> Plan:
    fields = select_fields(source.open(), config)
    _check_level_boundary(source, fields)
    _assume_boundary(source, fields)
    num, length = fields.num_trajectories, len(fields.axis)
    initial_digests = _initial_digests(config.splits, fields, initial_digests)
    files = file_of_frames(fields)
    known = fields.params | _conditions(initial_digests) | for_splits(config.splits, files, num)
    codes = config.splits.codes(fields.axis, num, known)
    codes[~fields.present] = ABSENT  # last: whatever the splits say, these frames do not exist
    feeds = count_feeds(files, codes)
    say_order(feeds, config.splits, getattr(config.source, "paths", ()))
    item_bytes = np.dtype(config.dtype).itemsize
    static_bytes = item_bytes * len(fields.static) * prod(fields.grid.shape) if fields.varying_static else 0
    shape = (num, length, len(fields.state), *fields.grid.shape)
    leading = leading_shard(shape, static_bytes, config.shard_bytes, item_bytes)
    static_shape = (num if fields.varying_static else 1, len(fields.static), *fields.grid.shape)
    chunks = chunk_of(shape[2:], item_bytes), chunk_of(static_shape[1:], item_bytes)
    uncut = (chunks[0][0], *fields.grid.shape), static_shape[1:]
    if not cut_rows:
        chunks = uncut
    state = frame_layout(shape, leading, chunks[0], config.codec, config.dtype)
    static = frame_layout(
        static_shape, (min(leading[0], static_shape[0]),), chunks[1], config.codec, config.dtype
    )
    # Parts follow the state's shards; a static shard has the same trajectories as the state's beside it.
    parts = Parts(state)
    check_partition(parts, state)
    identity = {
        "format": FORMAT,
        "config": config.identity(),
        "shape": state.shape,
        "channels": [channel.variable.key for channel in (*fields.state, *fields.static)],
    }
    # Stores that are cut as early versions cut them keep the fingerprint of those versions.
    if chunks != uncut:
        identity["chunks"] = chunks
    fingerprint = json_checksum(identity)
    return Plan(config, fields, codes, state, static, parts, fingerprint, tuple(initial_digests), feeds)


def _check_level_boundary(source: Source, fields: FieldReader) -> None:
    """Raise ConfigError where boundaries are given for a third axis that the fields do not have."""
    given = getattr(source, "boundary", None)
    level = fields.dataset.coords.get("level")
    if isinstance(given, Boundaries) and given.level and (level is None or "boundary" not in level.attrs):
        raise ConfigError(
            f"source.boundary.level: {fields.dataset.attrs['dataset']} has no third axis; give y and x only"
        )


def _assume_boundary(source: Source, fields: FieldReader) -> None:
    """Say where neither archive nor configuration know what lies beyond the edges."""
    answer = "" if hasattr(source, "boundary") else "accept: [boundary]"
    for axis, sides in (("y", fields.grid.boundary_y), ("x", fields.grid.boundary_x)):
        if "unknown" in sides:
            text = f"{fields.dataset.attrs['dataset']}: nothing says what lies beyond the ends of {axis}"
            assume("boundary", axis, f"{text}; like an open side, it does not wrap around", answer)


def _initial_digests(splits: Split, fields: FieldReader, known: Sequence[str]) -> Sequence[str]:
    """Digests of the initial conditions; none where the splits do not depend on them."""
    names = splits.group_by if isinstance(splits, TrajectorySplit) else ()
    if INITIAL_CONDITION not in names or INITIAL_CONDITION in fields.params:
        return ()
    # Reading all first frames takes minutes for a large archive, so what an earlier run found is used again.
    return known if len(known) == fields.num_trajectories else read_initial_digests(fields)


def _conditions(initial_digests: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The initial condition as one more scalar; a uniform one counts as different from all others."""
    conditions = [digest or f"uniform, {number}" for number, digest in enumerate(initial_digests)]
    return {INITIAL_CONDITION: np.array(conditions)} if conditions else {}
