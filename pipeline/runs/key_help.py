"""Key help: what a command's configuration may hold, or what one of its keys means, as text for a terminal."""

import difflib
import shutil
import textwrap
from collections.abc import Iterator, Sequence

from pelagos.pipeline.runs.key_reference import Key, dotted_keys, form_of, keys_of, purpose
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError


def describe_keys(command: str, cls: type[Config], path: str = "") -> str:
    """The keys of a command's configuration, of one of its sections, or one key.

    Args:
        command: whose configuration it is.
        cls: the class of the configuration.
        path: a dotted key; where a section has several forms, the name of one (`source.the_well`) selects it.

    Raises:
        ConfigError: there is no such key; the message names those that are near.
    """
    classes: Sequence[type[Config]] = [cls]
    key = None
    # Positions in a list (`data.0.path`) say nothing about what a key means.
    parts = [part for part in path.split(".") if part and not part.isdigit()]
    for part in parts:
        if key is not None and (forms := [one for one in classes if form_of(one) == part]):
            classes, key = forms, None
            continue
        found = [key for one in classes for key in keys_of(one) if key.name == part]
        if not found:
            raise ConfigError(_unknown(command, cls, path))
        key = _merged(found)
        classes = tuple(dict.fromkeys(section for one in found for section in one.sections))
    return "\n".join(_text(command, ".".join(parts), key, classes))


def _merged(found: Sequence[Key]) -> Key:
    """One key for the same key of several forms, with the words of the first."""
    meanings = list(dict.fromkeys(key.meaning for key in found))
    first = found[0]
    if len(meanings) == 1:
        return first
    return Key(first.name, first.values, first.default, "; or ".join(meanings), first.sections)


def _text(command: str, path: str, key: Key | None, classes: Sequence[type[Config]]) -> Iterator[str]:
    head = f"{command} {path}".strip()
    if key is not None:
        yield from (f"{head}: {_facts(key)}", *_wrapped(key.meaning, "  "))
        if not classes:
            return
        yield ""
    if len(classes) == 1:
        [only] = classes
        if key is None or key.meaning != purpose(only):
            yield from (*_wrapped(purpose(only), ""), "")
        for one in keys_of(only):
            yield f"  {one.name}: {_facts(one)}"
            yield from _wrapped(one.meaning, "      ")
        if any(one.sections for one in keys_of(only)):
            yield ""
            yield f"The keys of a section: pelagos help {command} {path + '.' if path else ''}SECTION"
        return
    yield "It takes one of these forms:"
    yield ""
    for form in classes:
        yield f"  {form_of(form) or form.__name__}"
        yield from _wrapped(purpose(form), "      ")
    yield ""
    yield f"The keys of a form: pelagos help {command} {path}.FORM"


def _facts(key: Key) -> str:
    default = "required" if not key.default else f"default {key.default}"
    if key.sections and key.default in ("", "its own"):
        default = "" if key.default else "required"
    changeable = "may change when a run is continued" if key.changeable else ""
    return ", ".join(part for part in (key.values, default, changeable) if part)


def _wrapped(text: str, indent: str) -> list[str]:
    width = min(100, shutil.get_terminal_size().columns)  # longer lines are hard to read
    lines = textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent)
    return lines or [indent.rstrip()]


def _unknown(command: str, cls: type[Config], path: str) -> str:
    known = dict.fromkeys(dotted_keys(cls))
    last = path.rpartition(".")[2]
    # The right word in the wrong section is the commonest mistake.
    same = [one for one in known if one.rpartition(".")[2] == last]
    near = same[:3] or difflib.get_close_matches(path, known, n=3) or _near_names(known, last)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"{command} has no key {path}{hint}"


def _near_names(known: dict[str, None], last: str) -> list[str]:
    names = {one.rpartition(".")[2]: one for one in reversed(known)}
    return [names[name] for name in difflib.get_close_matches(last, names, n=2)]
