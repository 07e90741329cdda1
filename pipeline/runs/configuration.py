"""Configuration: YAML files with `extends` and `key=value` overrides; all errors are reported at once."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from pelagos.pipeline.runs.key_reference import dotted_keys, form_of, keys_of
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError, MissingFileError
from pelagos.preprocessing.files.yaml_text import read_yaml_text
from pelagos.preprocessing.safety.credentials import credential_faults
from pelagos.preprocessing.safety.trust import CLASS_PATH, class_paths, foreign_reason, require_trust

C = TypeVar("C", bound=Config)
SHIPPED = Path(__file__).resolve().parents[2] / "configs"


def load(path: str | Path, overrides: Iterable[str], cls: type[C]) -> C:
    """The validated configuration of a run.

    Args:
        path: a YAML file, or the name of a shipped one (`build/wfde5`).
        overrides: `dotted.key=value` texts with values in YAML; `list.0.key` reaches into lists.
        cls: the configuration's class.

    Raises:
        MissingFileError: there is no such file.
        ConfigError: it is not YAML, or has errors; the message lists all of them by their dotted keys.
    """
    file = find_config(path)
    return validate(apply_overrides(read_yaml(file), overrides), cls, str(file))


def find_config(path: str | Path) -> Path:
    """The file, or the shipped configuration of that name.

    >>> find_config("demo").name
    'demo.yaml'
    """
    path = Path(path)
    for candidate in (path, SHIPPED / path.parent / f"{path.stem}.yaml"):
        if candidate.is_file():
            return candidate
    shipped = sorted(str(p.relative_to(SHIPPED).with_suffix("")) for p in SHIPPED.rglob("*.yaml"))
    # Below difflib's own 0.6: people give a name without its folder, or the folder alone.
    # One of each folder where none is like it.
    firsts = sorted({name.partition("/")[0]: name for name in reversed(shipped)}.values())
    near = difflib.get_close_matches(str(path), shipped, n=3, cutoff=0.4) or firsts
    raise MissingFileError(
        f"no configuration {path}: neither a file nor one that is shipped, such as {', '.join(near)}"
    )


def read_yaml(file: Path, extended_by: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The mapping in a YAML file, merged over that of the file that it extends.

    Raises:
        ConfigError: it is not YAML, holds no mapping, or extends itself.
        MissingFileError: the file that it extends does not exist.
        UntrustedCodeError: it names a class, and is not a file of the user's own.
    """
    if file.resolve() in extended_by:
        raise ConfigError(f"{file}: extends itself, by way of {', '.join(map(str, extended_by))}")
    values = mapping_in(file)
    # Each file of a chain for itself: extending a stranger's file must not make it the user's.
    if class_paths(values) and (reason := foreign_reason(file)):
        require_trust(values, file, reason)
    base = values.pop("extends", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise ConfigError(f"{file}: extends must name one file, not {base!r}")
    # A file beside this one goes before a shipped one of the same name.
    beside = file.parent / base
    return merge(
        read_yaml(beside if beside.is_file() else find_config(base), (*extended_by, file.resolve())), values
    )


def mapping_in(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file as it stands there, to be looked at: the classes that it names may be anybody's.

    Raises:
        ConfigError: it is not YAML, or holds no mapping.
    """
    try:
        # Runs no code, and refuses what would grow in memory.
        values = read_yaml_text(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        found = {type(None): "nothing", list: "a list", str: "text"}.get(type(values), repr(values))
        raise ConfigError(f"{file} must hold a mapping of keys to values; it holds {found}")
    return values


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` updated with `over`: mappings are merged key by key, everything else is replaced.

    >>> merge({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}})
    {'a': {'x': 1, 'y': 3}}
    """
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        # Another kind has other keys, so a mapping whose kind changes is replaced.
        if isinstance(old, Mapping) and isinstance(value, Mapping) and _same_kind(old, value):
            merged[key] = merge(old, value)
        else:
            merged[key] = value
    return merged


def _same_kind(base: Mapping[str, Any], over: Mapping[str, Any]) -> bool:
    return bool(over.get("kind", base.get("kind")) == base.get("kind"))


def apply_overrides(values: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """`values` with every `dotted.key=value` set.

    >>> apply_overrides({"data": [{"store": "a"}]}, ["data.0.store=b", "steps=10"])
    {'data': [{'store': 'b'}], 'steps': 10}
    """
    for text in overrides:
        key, separator, raw = text.partition("=")
        if not separator or not key:
            raise ConfigError(f"an override has the form key=value, not {text!r}")
        try:
            # To YAML this is an alias; a user means a pattern of file names.
            value = raw if raw.startswith("*") else read_yaml_text(raw)
        except yaml.YAMLError as error:
            raise ConfigError(f"the value of the override {text!r} is not valid YAML: {error}") from error
        if isinstance(value, str):
            value = _number(value)
        values = _set(values, key.split("."), value, text)
    return values


def named_classes(overrides: Iterable[str]) -> list[str]:
    """The classes that overrides name: whoever types a class trusts it.

    >>> named_classes(["steps=3", "network.path=mine.networks:Net"])
    ['mine.networks:Net']
    """
    return list(filter(CLASS_PATH.fullmatch, class_paths(apply_overrides({}, overrides))))


def _number(text: str) -> str | float:
    """The number in a text such as 1e-3, which YAML 1.1 takes for text because it has no dot."""
    try:
        return float(text) if text and (text[0].isdigit() or text[0] in "+-.") else text
    except ValueError:
        return text


def _set(node: Any, keys: list[str], value: Any, text: str) -> Any:
    key, rest = keys[0], keys[1:]
    if isinstance(node, list):
        if not key.isdigit() or int(key) >= len(node):
            raise ConfigError(f"override {text!r}: the list has no item {key!r}, only 0 to {len(node) - 1}")
        # Copies all the way down: the file's own values may be shared by YAML aliases.
        copy: Any = list(node)
        copy[int(key)] = _set(node[int(key)], rest, value, text) if rest else value
        return copy
    if not isinstance(node, dict | None):
        raise ConfigError(f"override {text!r}: there is no key {key!r} below the value {node!r}")
    copy = dict(node or {})
    copy[key] = _set(copy.get(key), rest, value, text) if rest else value
    return copy


def validate(values: Mapping[str, Any], cls: type[C], where: str) -> C:
    """`values` as a `cls`.

    Raises:
        ConfigError: lists all errors by their dotted keys.
    """
    # First, since pydantic's messages would repeat the values that are in error.
    if secret := list(credential_faults(values)):
        raise ConfigError(f"{where} has {len(secret)} credential(s):\n  " + "\n  ".join(secret))
    try:
        return TypeAdapter(cls).validate_python(_floats(values))
    except ValidationError as error:
        faults: dict[str, list[str]] = {}
        for detail in filter(_is_reported, error.errors()):
            key = _key(detail, values)
            faults.setdefault(key, []).append(_fault(detail, cls, key))
        lines = [f"  {key}: {', or '.join(dict.fromkeys(messages))}" for key, messages in faults.items()]
        raise ConfigError(f"{where} has {len(lines)} error(s):\n" + "\n".join(lines)) from error


def _floats(values: Any) -> Any:
    """The same tree, with numbers in place of texts such as 1e-3."""
    if isinstance(values, Mapping):
        return {key: _floats(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_floats(value) for value in values]
    if isinstance(values, str) and "e" in values.lower():
        return _number(values)
    return values


def _is_reported(detail: ErrorDetails) -> bool:
    """Whether to report an error: not a list that is too short only because its items are in error."""
    return detail["type"] != "too_short" or len(detail["input"]) < detail["ctx"]["min_length"]


def _key(detail: ErrorDetails, values: Any) -> str:
    """The dotted key as the user wrote it, without pydantic's names for the members of a union."""
    parts, node, last = [], values, len(detail["loc"]) - 1
    for number, part in enumerate(detail["loc"]):
        listed = isinstance(node, list) and isinstance(part, int) and part < len(node)
        if listed or (isinstance(node, Mapping) and part in node):
            node = node[part]
        elif number < last or detail["type"] != "missing":
            continue
        parts.append(str(part))
    # pydantic names the section, but what is missing in it is its `kind`.
    if detail["type"] == "union_tag_not_found":
        parts.append(detail["ctx"]["discriminator"].strip("'"))
    return ".".join(parts) or "(top level)"


def _fault(detail: ErrorDetails, cls: type[Config], found_at: str) -> str:
    found = f" (found {detail['input']!r:.80})"
    match detail["type"]:
        case "extra_forbidden":
            name = str(detail["loc"][-1])
            # Of the section first: a key of another one may be nearer by its letters alone.
            near = difflib.get_close_matches(name, _section_keys(cls, detail["loc"]), n=1)
            near = near or _elsewhere(cls, name)
            if ".".join(part for part in found_at.split(".") if not part.isdigit()) in near:
                return "unknown key here; it belongs to another kind of this section"
            return f"unknown key; did you mean {' or '.join(map(repr, near))}?" if near else "unknown key"
        case "union_tag_not_found":
            return "missing; it selects the form of the section"
        case "missing":
            return detail["msg"]
        case "value_error":
            return f"{detail['ctx']['error']}{found}"
        case "tuple_type" | "list_type":
            return f"Input should be a list{found}"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"Input should be a mapping of keys to values{found}"
    return f"{detail['msg']}{found}"


def _section_keys(cls: type[Config], location: tuple[int | str, ...]) -> list[str]:
    """The keys of the section that an unknown key was found in."""
    classes = [cls]
    for part in location[:-1]:
        inner = [one for cls in classes for key in keys_of(cls) if key.name == part for one in key.sections]
        # Where a section has several forms, pydantic names the form as well.
        classes = inner or [one for one in classes if part in (form_of(one), one.__name__)] or classes
    return sorted({key for one in classes for key in one.model_fields})


def _elsewhere(cls: type[Config], name: str) -> list[str]:
    """The dotted keys of the sections nearest to the top that have the name, or else one that is like it."""
    # `kind` and others stand in many sections.
    keys = sorted(dict.fromkeys(dotted_keys(cls)), key=lambda key: key.count("."))
    if same := [key for key in keys if key.rpartition(".")[2] == name]:
        return [key for key in same if key.count(".") == same[0].count(".")][:3]
    last = {key.rpartition(".")[2]: key for key in reversed(keys)}
    # Above difflib's own 0.6: among all keys of a command some have a few letters in common with anything.
    return [last[near] for near in difflib.get_close_matches(name, last, n=1, cutoff=0.75)]


def dump(config: Config) -> str:
    """A configuration as YAML, with all defaults."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
