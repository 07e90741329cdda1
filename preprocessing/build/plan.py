"""Plan: what a build will write, who writes what, and all that can be checked before the first byte."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt, ValidationError, field_validator

from pelagos.preprocessing.build.duplicate_starts import read_beginnings
from pelagos.preprocessing.build.slurm_workers import Workers
from pelagos.preprocessing.durable import json_checksum
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.fields.channels import FieldOptions
from pelagos.preprocessing.fields.fields import Fields
from pelagos.preprocessing.fields.select_fields import select
from pelagos.preprocessing.location import Folder
from pelagos.preprocessing.sources.convention import Boundaries
from pelagos.preprocessing.sources.formats.source import Source
from pelagos.preprocessing.split import ABSENT, INITIAL_CONDITION, SPLITS, Codes, Split, TrajectorySplit
from pelagos.preprocessing.store.format import FORMAT
from pelagos.preprocessing.store.shard_layout import CodecName, ShardLayout

_CHUNK = 1 << 20  # bytes: larger frames are cut along the channels, larger channels along the rows
_MANNER = {"root", "workers", "scheduler", "part", "overwrite"}
_ATTRIBUTES = {"Conventions", "id", "product_version", "source", "history", "provenance", "pelagos"}


def _like(pattern: str, what: str) -> AfterValidator:
    """Accepts texts of a pattern; the message says in words what they are."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"Input should be {what}")
        return text

    return AfterValidator(check)


_Name = Annotated[
    str,
    _like(r"[A-Za-z0-9][A-Za-z0-9_.-]*", "a name of letters, digits, and dots, dashes or underscores within"),
]


def _text(value: Any) -> Any:
    """A number as text: version=2 is a number in YAML."""
    return str(value) if type(value) in (int, float) else value


class BuildConfig(FieldOptions):
    """A store: where its data come from, which of them it takes and how it keeps them.

    Attributes:
        dataset: identifier of the dataset.
        version: of the store; a store that is complete never changes.
        source: what is read.
        root: the folder of all stores.
        splits: which frames train, validate and test.
        title: for people.
        license: of the data, where the source does not say.
        references: likewise.
        attributes: more of ACDD's about the store: institution, creator_name, acknowledgement, ...
        codec: of the chunks: `none` is read quickest, `blosc-lz4` is a fifth smaller on turbulence.
        shard_bytes: what one task writes, before compression; it needs at most 1.2 times this memory, or
            a few frames if these are larger.
        checksum_sources: whether SHA-256 of the sources is recorded, which reads them once more.
        workers: processes that build side by side, 0 builds in this one; or jobs of SLURM (`kind: slurm`).
        scheduler: address of a running Dask scheduler (`tcp://host:port`) to build on instead.
        part: `i/n`: only this share of the shards, for arrays of jobs; the last one completes the store.
        overwrite: whether a store, or a half-finished build, that differs is replaced.
    """

    dataset: _Name
    version: Annotated[_Name, BeforeValidator(_text)] = "1"
    source: Source
    root: Folder = Path("stores")
    splits: Split = TrajectorySplit()
    title: str = ""
    license: str = ""
    references: str = ""
    attributes: dict[str, str] = Field(default_factory=dict)
    codec: CodecName = "none"
    shard_bytes: PositiveInt = 64 << 20
    checksum_sources: bool = True
    workers: Workers = 0
    scheduler: Annotated[str, _like(r"|(tcp|tls|ucx)://.+:\d+", "an address such as tcp://host:8786")] = ""
    part: Annotated[str, _like(r"[1-9]\d*/[1-9]\d*", "i/n, counted from 1, such as 2/16")] = "1/1"
    overwrite: bool = False

    @property
    def path(self) -> Path:
        """Of the complete store."""
        return self.root / self.dataset / f"{self.dataset}-{self.version}.zarr"

    @property
    def share(self) -> tuple[int, int]:
        """The part as a position from 0 and a count."""
        number, count = map(int, self.part.split("/"))
        return number - 1, count

    @field_validator("attributes")
    @classmethod
    def _not_ours(cls, attributes: dict[str, str]) -> dict[str, str]:
        if taken := sorted(set(attributes) & _ATTRIBUTES):
            raise ValueError(f"{taken[0]} is written by the build itself")
        return attributes

    def content(self) -> dict[str, Any]:
        """All that decides the bytes of the store, as JSON."""
        return self.model_dump(mode="json", exclude=_MANNER)

    def identity(self) -> dict[str, Any]:
        """The same without what is left at its default, so that a new option does not disown earlier stores."""
        return self.model_dump(mode="json", exclude=_MANNER, exclude_defaults=True)

    def makes(self, content: dict[str, Any]) -> bool:
        """Whether this builds the store of a content that was recorded, perhaps when there were fewer options."""
        try:
            return BuildConfig.model_validate(content).content() == self.content()
        except ValidationError:
            return False


@dataclass(frozen=True)
class Part:
    """One shard of the state and, at a trajectory's start, the shard of its static fields.

    Attributes:
        cell: position of the shard along trajectories and times.
        trajectories: first and last + 1.
        times: likewise.
    """

    cell: tuple[int, int]
    trajectories: tuple[int, int]
    times: tuple[int, int]

    @property
    def name(self) -> str:
        """Of its manifest entry."""
        return f"{self.cell[0]}.{self.cell[1]}"


@dataclass(frozen=True, eq=False)
class Plan:
    """A build before its first byte.

    Attributes:
        config: as given.
        fields: that are read.
        codes: (trajectory, time) splits, with what is unused or absent.
        state: layout of `state(trajectory, time, channel, y, x)`.
        static: layout of `static(trajectory, static_channel, y, x)`, its first axis 1 where all share one.
        parts: which together write every shard once.
        fingerprint: differs where the content would.
        beginnings: digests of all initial conditions, where the splits depend on them.
    """

    config: BuildConfig
    fields: Fields
    codes: Codes
    state: ShardLayout
    static: ShardLayout
    parts: tuple[Part, ...]
    fingerprint: str
    beginnings: tuple[str, ...]

    @property
    def training(self) -> NDArray[np.bool_]:
        """(trajectory, time) frames of the training split."""
        return np.asarray(self.codes == SPLITS.index("train"))

    def present(self, part: Part) -> NDArray[np.bool_]:
        """(trajectory, time) frames of a part that there are."""
        return np.asarray(self.codes[slice(*part.trajectories), slice(*part.times)] != ABSENT)

    def static_cell(self, part: Part) -> tuple[int, ...] | None:
        """The shard of static fields that a part writes, if any."""
        first = part.cell[1] == 0 and (self.fields.varying_static or part.cell[0] == 0)
        return (part.cell[0], 0, 0, 0) if first and self.fields.static else None


def make_plan(config: BuildConfig, *, cut_rows: bool = True, beginnings: Sequence[str] = ()) -> Plan:
    """What the configuration asks for, checked against the source.

    Args:
        config: of the store.
        cut_rows: whether large channels are cut along their rows, and static fields at all; once they were not.
        beginnings: of the plan, where they are known; else they are read if the splits depend on them.

    Raises:
        ConfigError: an option contradicts the data.
        DataError: the source is not in the convention.
    """
    fields = select(config.source.open(), config)
    _check_third(config.source, fields)
    num, length = fields.num_trajectories, len(fields.axis)
    beginnings = _beginnings(config.splits, fields, beginnings)
    codes = config.splits.codes(fields.axis, num, fields.params | _conditions(beginnings))
    codes[~fields.present] = ABSENT
    static_bytes = 4 * len(fields.static) * prod(fields.grid.shape) if fields.varying_static else 0
    shape = (num, length, len(fields.state), *fields.grid.shape)
    leading = _leading(shape, static_bytes, config.shard_bytes)
    static_shape = (num if fields.varying_static else 1, len(fields.static), *fields.grid.shape)
    chunks = chunk_of(shape[2:]), chunk_of(static_shape[1:])
    uncut = (chunks[0][0], *fields.grid.shape), static_shape[1:]
    if not cut_rows:
        chunks = uncut
    state = _layout(shape, leading, chunks[0], config.codec)
    static = _layout(static_shape, (min(leading[0], static_shape[0]),), chunks[1], config.codec)
    parts = partition(state)
    check_partition(parts, state)
    identity = {
        "format": FORMAT,
        "config": config.identity(),
        "shape": state.shape,
        "channels": [channel.variable.key for channel in (*fields.state, *fields.static)],
    }
    if chunks != uncut:
        identity["chunks"] = chunks
    return Plan(config, fields, codes, state, static, parts, json_checksum(identity), tuple(beginnings))


def _check_third(source: Source, fields: Fields) -> None:
    """Raise ConfigError where sides of a third axis are said that the fields do not have."""
    told = getattr(source, "boundary", None)
    level = fields.dataset.coords.get("level")
    if isinstance(told, Boundaries) and told.level and (level is None or "boundary" not in level.attrs):
        raise ConfigError(
            f"source.boundary.level: {fields.dataset.attrs['dataset']} has no third axis; say y and x alone"
        )


def _beginnings(splits: Split, fields: Fields, known: Sequence[str]) -> Sequence[str]:
    """Digests of the initial conditions, none where the splits don't depend on them."""
    names = splits.group_by if isinstance(splits, TrajectorySplit) else ()
    if INITIAL_CONDITION not in names or INITIAL_CONDITION in fields.params:
        return ()
    return known if len(known) == fields.num_trajectories else read_beginnings(fields)


def _conditions(beginnings: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The initial condition as one more scalar; those that are uniform agree with none."""
    conditions = [digest or f"uniform, {number}" for number, digest in enumerate(beginnings)]
    return {INITIAL_CONDITION: np.array(conditions)} if conditions else {}


def _leading(shape: tuple[int, ...], static_bytes: int, shard_bytes: int) -> tuple[int, int]:
    """Whole trajectories a shard, or blocks of time where a trajectory is long."""
    num, length = shape[:2]
    frame_bytes = 4 * prod(shape[2:])
    if frame_bytes * length <= 2 * shard_bytes:
        # The task that writes the shard holds the static fields of its trajectories as well.
        return _clamp(shard_bytes / (frame_bytes * length + static_bytes), num), length
    return 1, _clamp(shard_bytes / frame_bytes, length)


def chunk_of(frame: tuple[int, ...], item_bytes: int = 4) -> tuple[int, ...]:
    """The chunks of a frame (C, H, W): some channels, or some rows of one that is large.

    Of all numbers of rows that make 0.25 to 1 MiB it is the one that reaches least beyond the last row.
    """
    channels, height, width = frame
    row = item_bytes * width
    fitting = [c for c in range(1, channels + 1) if channels % c == 0 and c * height * row <= _CHUNK]
    if fitting or not channels:
        return (max(fitting, default=0), height, width)
    least, most = -(-_CHUNK // (4 * row)), max(1, _CHUNK // row)
    return 1, min(range(most, least - 1, -1), key=lambda rows: -height % rows), width


def _layout(
    shape: tuple[int, ...], leading: tuple[int, ...], chunk: tuple[int, ...], codec: CodecName
) -> ShardLayout:
    """Shards of so many whole frames, whose chunks may reach beyond the last row."""
    channels, height, width = shape[-3:]
    frame = (channels, -(-height // chunk[1]) * chunk[1], width)
    return ShardLayout(shape, (*leading, *frame), (*(1 for _ in leading), *chunk), codec)


def _clamp(value: float, upper: int) -> int:
    return max(1, min(round(value), upper))


def partition(state: ShardLayout) -> tuple[Part, ...]:
    """One part a shard, in C order."""
    (num, length), (rows, columns) = state.shape[:2], state.shard[:2]
    return tuple(
        Part(
            cell=(i, j),
            trajectories=(i * rows, min((i + 1) * rows, num)),
            times=(j * columns, min((j + 1) * columns, length)),
        )
        for i, j in product(range(state.cells[0]), range(state.cells[1]))
    )


def check_partition(parts: Sequence[Part], state: ShardLayout) -> None:
    """Raise DataError unless each shard is exactly one part: two tasks in one shard lose data silently."""
    expected = {part.cell: part for part in partition(state)}
    for part in parts:
        if part.cell not in expected:
            raise DataError(f"plan: part {part.name} is outside the {state.cells[:2]} shards of the store")
        if part != expected[part.cell]:
            right = expected[part.cell]
            raise DataError(
                f"plan: part {part.name} covers trajectories {part.trajectories} and times {part.times}; "
                f"its shard is trajectories {right.trajectories} and times {right.times}"
            )
    if doubled := [cell for cell, count in Counter(part.cell for part in parts).items() if count > 1]:
        raise DataError(f"plan: shard {doubled[0]} has more than one owner")
    if missing := sorted(set(expected) - {part.cell for part in parts}):
        raise DataError(f"plan: shard {missing[0]} has no owner")
