"""Key reference: what every key of a configuration means, taken from the classes themselves."""

import inspect
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from pelagos.preprocessing.config import ChangeableMark, Config
from pelagos.preprocessing.files.location import Url

_PLAIN = {
    bool: "true or false",
    int: "integer",
    float: "number",
    str: "text",
    Path: "path",
    Url: "URL",
    NoneType: "null",
    Any: "any value",
}
_BOUNDS = ((Gt, "gt", ">"), (Ge, "ge", ">="), (Lt, "lt", "<"), (Le, "le", "<="))
_ENTRY = re.compile(r"^(\w+): (.*)")


@dataclass(frozen=True)
class Key:
    """One key of a section.

    Attributes:
        name: the key as it is written in a configuration.
        values: the values that it may have, in words.
        default: its default in YAML; empty where the key is required.
        meaning: one sentence or more.
        sections: the classes of sections that it may hold; several are told apart by `kind`.
        changeable: whether it may differ when a run is continued.
    """

    name: str
    values: str
    default: str
    meaning: str
    sections: tuple[type[Config], ...] = ()
    changeable: bool = False


def keys_of(cls: type[Config]) -> list[Key]:
    """The keys of a configuration class, in the order of the class."""
    meanings = _meanings(cls)
    return [_key(name, field, meanings.get(name, "")) for name, field in cls.model_fields.items()]


def form_of(cls: type[Config]) -> str:
    """The `kind` that selects a class, empty where it is not one of several."""
    kind = cls.model_fields.get("kind")
    return str(kind.default) if kind is not None and get_origin(kind.annotation) is Literal else ""


def purpose(cls: type[Config]) -> str:
    """The first sentence of a class's docstring."""
    return inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0].replace("\n", " ")


def dotted_keys(cls: type[Config], above: tuple[type[Config], ...] = ()) -> Iterator[str]:
    """The dotted keys of a class and of all sections below it."""
    for key in keys_of(cls):
        yield key.name
        for section in key.sections:
            # A derived field may be derived from others of its kind.
            if section not in (*above, cls):
                yield from (f"{key.name}.{path}" for path in dotted_keys(section, (*above, cls)))


def sections_below(cls: type[Config]) -> list[type[Config]]:
    """A class and all that its keys lead to, each once, in reading order."""
    found: dict[type[Config], None] = {}

    def visit(one: type[Config]) -> None:
        if one not in found:
            found[one] = None
            for key in keys_of(one):
                for section in key.sections:
                    visit(section)

    visit(cls)
    return list(found)


def _key(name: str, field: FieldInfo, meaning: str) -> Key:
    sections = tuple(dict.fromkeys(_sections(field.annotation)))
    if not meaning and name in ("kind", "command") and get_origin(field.annotation) is Literal:
        meaning = "the command that the configuration is for" if name == "command" else "selects this form"
    if not meaning and len(sections) == 1:
        # A key that holds one section means what the section's class says of itself.
        meaning = purpose(sections[0])
    text = " ".join([_type_text(field.annotation), *_bounds(field.metadata)])
    if " or null " in text:  # the bound is of the number
        text = f"{text.replace(' or null ', ' ')} or null"
    changeable = any(isinstance(mark, ChangeableMark) for mark in field.metadata)
    return Key(name, text, _default_text(field), field.description or meaning, sections, changeable)


def _meanings(cls: type[Config]) -> dict[str, str]:
    """What the docstrings of a class and its parents say under `Attributes:`; the class's own word counts."""
    meanings: dict[str, str] = {}
    # Parents first: a class may say of an inherited key what it means here.
    for one in reversed(cls.__mro__):
        if issubclass(one, Config) and one.__doc__:
            meanings |= _attributes(inspect.cleandoc(one.__doc__))
    return meanings


def _attributes(docstring: str) -> dict[str, str]:
    _, found, listed = docstring.partition("Attributes:\n")
    meanings: dict[str, str] = {}
    if not found:
        return meanings
    last = ""
    for line in inspect.cleandoc(listed.split("\n\n")[0]).splitlines():
        if entry := _ENTRY.match(line):
            last, meanings[entry[1]] = entry[1], entry[2].strip()
        elif last:
            meanings[last] += f" {line.strip()}"
    return meanings


def _sections(annotation: Any) -> Iterator[type[Config]]:
    if isinstance(annotation, type) and issubclass(annotation, Config):
        yield annotation
    for part in get_args(annotation):
        yield from _sections(part)


def _type_text(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        # An item of a list has its bounds here, a field has them in its metadata.
        return " ".join([_type_text(parts[0]), *_bounds(parts[1:])])
    if origin is Literal:
        return " or ".join(f"`{part}`" for part in parts)
    if origin in (Union, UnionType):
        if all(isinstance(part, type) and issubclass(part, Config) for part in parts):
            return "section"
        return " or ".join(dict.fromkeys(map(_type_text, parts)))
    if origin in (tuple, list, frozenset, set):
        items = [part for part in parts if part is not Ellipsis]
        same = len(set(items)) == 1
        of = _type_text(items[0]) if same else ", ".join(map(_type_text, items))
        return f"list of {of}" if Ellipsis in parts or len(items) == 1 else f"list of {len(items)}: {of}"
    if isinstance(origin, type):
        return f"names, each with {_type_text(parts[-1])}" if len(parts) == 2 else str(annotation)
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return "section"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " or ".join(f"`{member.value}`" for member in annotation)
    return _PLAIN.get(annotation) or str(getattr(annotation, "__name__", annotation))


def _bounds(metadata: Iterable[Any]) -> Iterator[str]:
    for mark in metadata:
        # `PositiveInt` and its relatives wrap their bound in an Annotated of their own.
        for kind, attribute, sign in _BOUNDS:
            if isinstance(mark, kind):
                yield f"{sign} {getattr(mark, attribute):g}"


def _default_text(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined:
        return ""
    if isinstance(value, Config):
        return "its own" if value == _made(type(value)) else _yaml(value.model_dump(mode="json"))
    if isinstance(value, tuple):
        value = [one.model_dump(mode="json") if isinstance(one, Config) else one for one in value]
    return _yaml(value)


def _made(cls: type[Config]) -> Config | None:
    required = any(field.is_required() for field in cls.model_fields.values())
    return None if required else cls()


def _yaml(value: Any) -> str:
    text = yaml.safe_dump(
        value if isinstance(value, bool | int | float | str | list | dict | None) else str(value),
        default_flow_style=True,
        width=10**6,
        allow_unicode=True,
    )
    return text.removesuffix("\n").removesuffix("\n...")
