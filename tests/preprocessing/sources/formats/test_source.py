"""The union of sources chooses by `kind`, and says which kinds there are."""

import pytest
from pydantic import TypeAdapter, ValidationError

from pelagos.preprocessing.sources.formats.source import FORMATS, WRITERS, Source
from pelagos.preprocessing.sources.writer import BlockWriter

ADAPTER: TypeAdapter[object] = TypeAdapter(Source)


def test_kind_chooses_the_format() -> None:
    for format_ in FORMATS:
        kind = format_.model_fields["kind"].default
        assert type(ADAPTER.validate_python({"kind": kind, "paths": "a"})) is format_


def test_an_unknown_kind_or_option_is_named() -> None:
    with pytest.raises(ValidationError, match="'pdegym', 'pdebench', 'the_well', 'pdearena'"):
        ADAPTER.validate_python({"kind": "gribs", "paths": "a"})
    with pytest.raises(ValidationError, match=r"cf\.latitudes\s+Extra inputs"):
        ADAPTER.validate_python({"kind": "cf", "paths": "a", "latitudes": "keep"})


def test_writers_are_concrete() -> None:
    for writer in WRITERS.values():
        assert issubclass(writer, BlockWriter)
        assert not writer.__abstractmethods__
