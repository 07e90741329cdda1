"""Key reference: whatever a configuration may hold is explained."""

from typing import Literal

import pytest
from pydantic import Field

from pelagos.pipeline.runs.commands import STAGES, config_class
from pelagos.pipeline.runs.key_reference import keys_of, sections_below
from pelagos.preprocessing.config import Changeable, Config


class Inner(Config):
    """Something small.

    Attributes:
        size: of it [m].
    """

    kind: Literal["inner"] = "inner"
    size: float = Field(default=2.0, gt=0)


class Outer(Config):
    """Something large.

    Attributes:
        parts: what it is made of, one
            after the other.
        word: of greeting.
    """

    parts: tuple[Inner, ...]
    word: Changeable[Literal["hello", "goodbye"] | None] = None
    inner: Inner = Inner()


@pytest.mark.parametrize("command", STAGES)
def test_every_key_of_every_command_has_a_meaning(command: str) -> None:
    sections = sections_below(config_class(command))
    assert not [f"{one.__name__}.{key.name}" for one in sections for key in keys_of(one) if not key.meaning]


def test_keys_are_described_as_their_class_declares_them() -> None:
    parts, word, inner = keys_of(Outer)
    assert (parts.meaning, parts.values) == ("what it is made of, one after the other.", "list of section")
    assert (parts.default, parts.sections) == ("", (Inner,))
    assert (word.values, word.default, word.changeable) == ("`hello` or `goodbye` or null", "null", True)
    assert (inner.meaning, inner.default, inner.changeable) == ("Something small.", "its own", False)
    kind, size = keys_of(Inner)
    assert kind.meaning
    assert (size.values, size.default, size.meaning) == ("number > 0", "2.0", "of it [m].")


def test_a_section_is_reached_once_however_many_keys_hold_it() -> None:
    assert sections_below(Outer) == [Outer, Inner]
