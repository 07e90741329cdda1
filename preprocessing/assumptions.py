"""Assumptions: what a build takes for granted, changes or leaves out, and how a configuration decides it instead.

Whoever opens, converts or plans calls `assume` where it happens, or `ask` where the numbers may depend on it; a build
collects both, prints them, keeps them in the store, and does not begin while a question is open.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace
from typing import Any

from pelagos.preprocessing.errors import ConfigError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kind:
    """A kind of assumption.

    Attributes:
        meaning: what is assumed, for the page of docs that lists all kinds.
        answer: how a configuration decides it, where a call gives no better advice; empty where it can
            only be accepted.
    """

    meaning: str
    answer: str = ""


KINDS: Mapping[str, Kind] = {
    "fields_not_read": Kind(
        "fields of the archive that the store will not have",
        "name the fields to read in source.variables",
    ),
    "file_order": Kind(
        "the order of files, and with it which of them train and which test",
        "list the files in source.paths in the order that is right",
    ),
    "boundary": Kind("what lies beyond the edges of the grid", "set source.boundary"),
    "grid": Kind("whether the axes are latitudes and longitudes, and where points lie", "set source.grid"),
    "longitudes_unwrapped": Kind(
        "longitudes that jump by 360 degrees within the grid, and were put in order"
    ),
    "columns_dropped": Kind("columns or rows that repeat others"),
    "rows_flipped": Kind("rows that were turned round", "set source.latitude"),
    "regridded": Kind("values moved to another grid", "set regrid"),
    "chunks_absent": Kind("parts of an array that were never written", "complete the archive"),
    "missing_values": Kind("which values mark missing ones", "set marks, or missing"),
    "precision_lost": Kind(
        "digits that float32, in which stores keep values, cannot hold",
        "subtract an offset by transforms: {FIELD: {kind: shift, offset: ...}}",
    ),
    "half_precision": Kind(
        "increments from frame to frame that 16 bits, in which the store keeps values, change by more than 5 %",
        "set dtype: float32",
    ),
    "units_converted": Kind("units changed so that files, or rows and columns, agree", "set convert"),
    "units_missing": Kind(
        "units that the archive does not state", "say them by convert: {FIELD: {units: ..., scale: 1}}"
    ),
    "complex_parts": Kind("how complex numbers become real channels", "name the parts in source.variables"),
    "calendar": Kind("a calendar other than the standard one"),
    "times": Kind(
        "times rounded, taken as valid times, read from digits, or taken from names", "set subset.time"
    ),
    "positions": Kind(
        "numbers that select by position where dates, years or levels may be meant",
        "give dates, such as 1979-01-01",
    ),
    "accumulation": Kind("sums since the start of a forecast turned into sums of each step"),
    "axis_order": Kind("the order of an array's axes", "set source.axes"),
    "levels": Kind("which levels, members or versions were merged or told apart", "set source.select"),
    "constant": Kind(
        "a channel that has the same value everywhere: it is left out of relative losses",
        "leave the field out by variables",
    ),
    "spikes": Kind("values far outside all others", "correct the archive"),
    "repeated_end": Kind(
        "a periodic axis whose last point is the first again", "leave it out by subset.x or subset.y"
    ),
}
"""All kinds by code, in the order in which they are told."""


ASSUMPTIONS = "assumptions"
"""The attribute of a store that records them."""


@dataclass(frozen=True)
class Assumption:
    """One thing that was assumed.

    Attributes:
        code: of its kind, a key of KINDS.
        field: the field, axis or file that it is about; empty for the whole archive.
        text: what was found and what was made of it.
        answer: how a configuration decides it.
        question: whether numbers may depend on it, so that the configuration has to decide.
        count: how many times the like was found, in as many files for example.
    """

    code: str
    field: str
    text: str
    answer: str
    question: bool = False
    count: int = 1

    def __str__(self) -> str:
        about = f"{self.code}{f' ({self.field})' if self.field else ''}: {self.text}"
        return f"{about}; and {self.count - 1} more like it" if self.count > 1 else about

    def to_json(self) -> dict[str, Any]:
        """A JSON object from which the class is made again."""
        return asdict(self)


def recorded(values: Iterable[Mapping[str, Any]] | None) -> tuple[Assumption, ...] | None:
    """The assumptions that a store records; None where it is of before they were."""
    return None if values is None else tuple(Assumption(**one) for one in values)


class Assumptions:
    """The assumptions made within `collect`; those of one kind about one field are one, and counted."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Assumption] = {}
        self._texts: set[str] = set()

    def add_all(self, found: Iterable[Assumption]) -> None:
        """Add assumptions that others have collected."""
        for one in found:
            self.add(one)

    def add(self, one: Assumption) -> None:
        """Add an assumption, or count it where the like is known."""
        if str(one) in self._texts:  # a file may be opened twice
            return
        self._texts.add(str(one))
        known = self._found.get((one.code, one.field))
        if known is not None:
            either = known.question or one.question
            one = replace(known, count=known.count + one.count, question=either)
        self._found[one.code, one.field] = one

    @property
    def all(self) -> tuple[Assumption, ...]:
        """All of them, in the order of KINDS."""
        order = {code: number for number, code in enumerate(KINDS)}
        return tuple(sorted(self._found.values(), key=lambda one: order.get(one.code, len(order))))


# A variable of the context, so that what opens a file need not be handed a list through every call. Each process and
# each thread of Dask has its own: what a worker assumes while it reads comes back in the record of its part.
_collecting: ContextVar[Assumptions | None] = ContextVar("assumptions", default=None)


@contextmanager
def collect() -> Iterator[Assumptions]:
    """Collect what is assumed within the block, in this thread."""
    found = Assumptions()
    token = _collecting.set(found)
    try:
        yield found
    finally:
        _collecting.reset(token)


def assume(code: str, field: str, text: str, answer: str = "", *, question: bool = False) -> None:
    """Say that something is assumed, changed or left out; where nobody collects, it is logged as a warning.

    Args:
        code: of its kind, a key of KINDS.
        field: the field, axis or file that it is about; empty for the whole archive.
        text: what was found and what was made of it, with the file's name.
        answer: the option that decides it; the kind's by default.
        question: whether numbers may depend on it, as `ask` says.
    """
    assert code in KINDS, f"{code} is no code of KINDS"
    answer = answer or KINDS[code].answer or f"accept: [{code}]"
    one = Assumption(code, field, text, answer, question)
    collecting = _collecting.get()
    if collecting is None:
        _log.warning("%s; to decide it: %s", one, one.answer)
    else:
        collecting.add(one)


def ask(code: str, field: str, text: str, answer: str = "") -> None:
    """Say what is assumed where the numbers depend on it: a build refuses it until its configuration decides.

    Call it only where the option in `answer` was not set. What cannot even be opened without an answer raises instead.
    """
    assume(code, field, text, answer, question=True)


def require_answers(found: Iterable[Assumption], accepted: Sequence[str], *, strict: bool) -> None:
    """Refuse open questions; with `strict`, every assumption that is not accepted.

    Raises:
        ConfigError: there are any; the message names all of them, with their answers.
    """
    refused = [one for one in found if (strict or one.question) and one.code not in accepted]
    if refused:
        why = "strict: nothing may be assumed" if strict else "before it can be built, say what is right"
        codes = ", ".join(dict.fromkeys(one.code for one in refused))
        raise ConfigError(
            f"{why}:\n{describe(refused)}\nor take what is assumed as right by accept: [{codes}]"
        )


def describe(found: Iterable[Assumption]) -> str:
    """A list for people: each assumption, and below it how to decide it."""
    return "\n".join(f"  {one}\n      {one.answer}" for one in found)
