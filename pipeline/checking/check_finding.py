"""What a check finds: a line for people, and its numbers for programs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class CheckFinding:
    """One thing that is known of a run before it begins.

    Attributes:
        about: what it is about, as the line begins: `data`, `epoch`, `network`, ..., or `note` or `WARNING`.
        text: the finding in words.
        values: the same in numbers, under names that stay (docs/training.md lists them).
    """

    about: str
    text: str
    # Apart from the text, so that programs need not parse sentences, and sentences may be improved.
    values: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.about}: {self.text}"


def warning(text: str) -> CheckFinding:
    """A finding that will not stop a run, and perhaps spoil it."""
    return CheckFinding("WARNING", text)


def bytes_text(number: float) -> str:
    """A size in words.

    >>> bytes_text(12.57e9), bytes_text(0.2357e9), bytes_text(3.3e3)
    ('12.57 GB', '236 MB', '3.3 kB')
    """
    for unit in ("kB", "MB"):
        number /= 1000
        if number < 1000:
            return f"{number:.3g} {unit}"
    return f"{number / 1000:.4g} GB"
