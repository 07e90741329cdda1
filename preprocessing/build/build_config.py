"""BuildConfig: what a store is built from, which of it, and how it is kept."""

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt, ValidationError, field_validator

from pelagos.preprocessing.assumptions import ASSUMPTIONS, KINDS
from pelagos.preprocessing.build.slurm_workers import Workers
from pelagos.preprocessing.fields.field_options import FieldOptions
from pelagos.preprocessing.files.location import Folder
from pelagos.preprocessing.sources.formats.source import Source
from pelagos.preprocessing.store.shard_layout import CodecName, TypeName
from pelagos.preprocessing.store.split import Split, TrajectorySplit

# Where and how, not what is built.
_NOT_CONTENT = {"root", "workers", "scheduler", "part", "overwrite", "check_finished", "accept", "strict"}
_OWN_ATTRIBUTES = {
    "Conventions",
    "id",
    "product_version",
    "source",
    "history",
    "provenance",
    "pelagos",
    ASSUMPTIONS,
}


def _like(pattern: str, what: str) -> AfterValidator:
    """Accept only texts of a pattern; the message says in words what they must be."""

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
    """A number as text: `version: 2` is a number in YAML."""
    return str(value) if type(value) in (int, float) else value


class BuildConfig(FieldOptions):
    """A store to build: where its data come from, which of them it takes and how it keeps them.

    Attributes:
        dataset: identifier of the dataset.
        version: version of the store; a complete store never changes.
        source: the archive that is read, and how.
        root: the folder of all stores.
        splits: which frames train, validate and test.
        title: title for people.
        license: licence of the data, where the source does not state it.
        references: publications on the data, where the source does not name them.
        attributes: more attributes of ACDD: institution, creator_name, acknowledgement, ...
        codec: compression of chunks: `none` is read fastest, `blosc-lz4` is a fifth smaller on turbulence.
        dtype: type of the stored values. `float16` takes half the bytes on disk, over the network and on the way to a
            GPU; each channel is kept about an offset and in units of a scale, and the error is recorded.
        shard_bytes: size of a shard before compression. Writing one takes at most 1.2 times this memory (of float16
            3.2 times), or that of a few frames if these are larger.
        checksum_sources: whether to record the SHA-256 of the sources, which reads them once more, beforehand.
        workers: number of processes that build side by side, 0 to build in this one; or jobs of SLURM
            (`kind: slurm`).
        scheduler: address of a running Dask scheduler (`tcp://host:port`) to build on instead.
        part: `i/n` builds only this share of the shards, for arrays of jobs; the last one completes the store.
        overwrite: whether to replace a store, or an unfinished build, that differs.
        check_finished: whether an interrupted build that goes on reads the finished shards again and compares their
            CRC-32C; otherwise their sizes tell, and `pelagos verify` finds any other damage.
        accept: codes of assumptions (docs/assumptions.md) that are right, so that the build asks no more.
        strict: whether to refuse every assumption that is not accepted, and not only those that are asked about.
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
    dtype: TypeName = "float32"
    shard_bytes: PositiveInt = 64 << 20
    checksum_sources: bool = True
    workers: Workers = 0
    scheduler: Annotated[str, _like(r"|(tcp|tls|ucx)://.+:\d+", "an address such as tcp://host:8786")] = ""
    part: Annotated[str, _like(r"[1-9]\d*/[1-9]\d*", "i/n, counted from 1, such as 2/16")] = "1/1"
    overwrite: bool = False
    check_finished: bool = False
    accept: tuple[str, ...] = ()
    strict: bool = False

    @property
    def path(self) -> Path:
        """The path of the complete store."""
        return self.root / self.dataset / f"{self.dataset}-{self.version}.zarr"

    @property
    def share(self) -> tuple[int, int]:
        """The share of the build as a position, counted from 0, and the number of shares."""
        number, count = map(int, self.part.split("/"))
        return number - 1, count

    @field_validator("attributes")
    @classmethod
    def _not_ours(cls, attributes: dict[str, str]) -> dict[str, str]:
        if taken := sorted(set(attributes) & _OWN_ATTRIBUTES):
            raise ValueError(f"{taken[0]} is written by the build itself; leave it out")
        return attributes

    @field_validator("accept")
    @classmethod
    def _known_codes(cls, codes: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [code for code in codes if code not in KINDS]:
            raise ValueError(f"{unknown[0]!r} is no kind of assumption; there are {', '.join(KINDS)}")
        return codes

    def content(self) -> dict[str, Any]:
        """All options that decide the bytes of the store, as JSON."""
        values = self.model_dump(mode="json", exclude=_NOT_CONTENT)
        # Stores record it: those in float32 keep the bytes that they had before there was a choice.
        return {key: value for key, value in values.items() if (key, value) != ("dtype", "float32")}

    def identity(self) -> dict[str, Any]:
        """The content without options at their default."""
        # So that a new option does not change the fingerprint of stores built before it existed.
        return self.model_dump(mode="json", exclude=_NOT_CONTENT, exclude_defaults=True)

    def makes(self, content: dict[str, Any]) -> bool:
        """Whether this configuration builds a store of recorded content, perhaps from when there were fewer options."""
        try:
            return BuildConfig.model_validate(content).content() == self.content()
        except ValidationError:
            return False
