"""Work share: a part of a stage's work, for arrays of jobs, and the locks under which shares work side by side."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated

from pydantic import Field

from pelagos.preprocessing.config import Changeable
from pelagos.preprocessing.files.durable import sole_writer

Part = Changeable[Annotated[str, Field(pattern=r"^[1-9]\d*/[1-9]\d*$")]]
"""`i/n`: share i of n, counted from 1."""


def share_of(part: str) -> tuple[int, int]:
    """A part's position, counted from 0, and the number of shares.

    Raises:
        ValueError: there are fewer shares.

    >>> share_of("2/3")
    (1, 3)
    """
    number, count = map(int, part.split("/"))
    if number > count:
        raise ValueError(f"part: {part} must be one of 1/{count} to {count}/{count}")
    return number - 1, count


@contextmanager
def working_share(output: Path, share: tuple[int, int]) -> Iterator[None]:
    """Write to a folder beside other shares, but neither beside a second start of this one nor beside the whole.

    Args:
        output: the folder.
        share: the position, counted from 0, and the number of shares; a single one excludes all others.

    Raises:
        LockedError: another process writes there.
    """
    position, count = share
    own = output.with_name(f"{output.name}-part-{position + 1}-of-{count}")
    with sole_writer(output, shared=count > 1), sole_writer(own) if count > 1 else nullcontext():
        yield
