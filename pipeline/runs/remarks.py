"""Remarks: lines on the standard error that a command says once, however often its parts come to them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# Of the context, not of the module: commands in other threads say their own lines.
_said: ContextVar[set[str] | None] = ContextVar("said", default=None)


@contextmanager
def once() -> Iterator[None]:
    """Within this context, `say` prints no line twice."""
    token = _said.set(set())
    try:
        yield
    finally:
        _said.reset(token)


def say(line: str) -> None:
    """Print a line on the standard error."""
    said = _said.get()
    if said is not None:
        if line in said:
            return
        said.add(line)
    print(line, file=sys.stderr, flush=True)
