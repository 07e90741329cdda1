"""BuildConfig: what a store is built from, which of it, and how it is kept."""

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt, ValidationError, field_validator

from pelagos.preprocessing.build.slurm_workers import Workers
from pelagos.preprocessing.fields.field_options import FieldOptions
from pelagos.preprocessing.location import Folder
from pelagos.preprocessing.sources.formats.source import Source
from pelagos.preprocessing.split import Split, TrajectorySplit
from pelagos.preprocessing.store.shard_layout import CodecName

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
