"""Trust: which classes may be imported because a file names them.

A model, a store or a run folder may come from anybody, and importing a module runs it. So what an artifact names by
`kind: external` is imported only if the user has named it too: on the command line, or in a configuration of their own.
"""

import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from pelagos.preprocessing.errors import ConfigError, UntrustedCodeError

CLASS_PATH = re.compile(r"[\w.]+:\w+")
"""`package.module:Class`."""
_ARTIFACT_FILES = ("run.json", "done.json", "model.json", "state.json", "zarr.json", ".zgroup")
"""Files that mark a folder as written by a program, which may have been another user's."""
_trusted: ContextVar[frozenset[str]] = ContextVar("trusted", default=frozenset())


@contextmanager
def trusting(paths: Iterable[str]) -> Iterator[None]:
    """Let files name these classes while the block runs, in this thread.

    Args:
        paths: of the classes, as `package.module:Class`.

    Raises:
        ConfigError: one is not of that form.
    """
    paths = list(paths)
    for path in paths:
        if not CLASS_PATH.fullmatch(path):
            raise ConfigError(f"--trust {path!r} must have the form package.module:Class")
    before = _trusted.set(_trusted.get() | set(paths))
    try:
        yield
    finally:
        _trusted.reset(before)


def class_paths(values: Any) -> list[str]:
    """The classes that a tree of JSON or YAML values names, in order of appearance.

    >>> class_paths({"network": {"kind": "external", "path": "mine.networks:Net"}, "data": [{"path": "stores/a"}]})
    ['mine.networks:Net']
    """
    return list(dict.fromkeys(_class_paths(values)))


def _class_paths(values: Any) -> Iterator[str]:
    if isinstance(values, dict):
        path = values.get("path")
        # Without the kind too: it may come from the file that this one is merged with.
        if values.get("kind") == "external" or (isinstance(path, str) and CLASS_PATH.fullmatch(path)):
            yield str(path)
        values = values.values()
    elif not isinstance(values, list | tuple):
        return
    for value in values:
        yield from _class_paths(value)


def require_trust(values: Any, file: object, why: str = "the file may be anybody's") -> None:
    """Refuse a tree of values that names a class which the user has not named.

    Args:
        values: the values as they stand in the file.
        file: the file that holds them, for the message.
        why: its word does not count.

    Raises:
        UntrustedCodeError: it names one; nothing has been imported.
    """
    for path in class_paths(values):
        if path not in _trusted.get():
            raise UntrustedCodeError(
                f"{file} asks to import {path!r} (kind: external), which would run its code, and {why}; "
                f"nothing was imported. If you know that code, add: --trust {path}"
            )


def foreign_reason(file: Path) -> str:
    """Why a configuration file does not speak for the user; an empty text where it does.

    It does if it belongs to them (or to root), if not everybody may write to it, and if it does not lie in the folder
    of a run, a model or a store, which are passed on as a whole.
    """
    status = file.stat()
    if status.st_uid not in (os.getuid(), 0):
        return f"the file belongs to another user (number {status.st_uid})"
    if status.st_mode & stat.S_IWOTH:
        return "the file may be written by everybody"
    if beside := [name for name in _ARTIFACT_FILES if (file.parent / name).exists()]:
        return f"the file lies beside {beside[0]}, in the folder of a run, a model or a store, which may be anybody's"
    return ""
