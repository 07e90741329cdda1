"""YAML texts of anybody: read by the safe loader, and not at all if they are far larger than they look."""

from typing import Any

import yaml

_LONGEST = 4 << 20  # characters
_DEEPEST = 100  # the deepest configuration has some ten levels
_MOST = 100_000  # values that aliases may add; the largest configuration has some hundreds
_QUICK = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C where PyYAML has it


def read_yaml_text(text: str, *, quick: bool = False) -> Any:
    """The values of a YAML text.

    Args:
        text: the text, perhaps a stranger's.
        quick: whether to read it in C, ten times faster, with messages that do not show the line.

    Raises:
        yaml.YAMLError: it is not YAML, is too long or too deep, sets a key twice, or holds aliases that would multiply
            its size.
    """
    kind = _QUICK if quick else yaml.SafeLoader
    if len(text) > _LONGEST:
        raise yaml.YAMLError(f"it has {len(text)} characters; at most {_LONGEST} would be right")
    _check_depth(text, kind)
    loader = kind(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check_size(node)
        _check_unique(node)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _check_depth(text: str, kind: Any) -> None:
    # Composing recurses, in C until the stack is full and the process dies; parsing to events does not.
    depth = 0
    for event in yaml.parse(text, Loader=kind):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise yaml.YAMLError(f"its values are nested more than {_DEEPEST} deep")


def _check_size(root: yaml.Node) -> None:
    """Refuse a tree whose aliases stand for too many values, before anything walks through them."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: yaml.Node) -> int:
        if id(node) in open_nodes:
            raise yaml.YAMLError("an alias stands for a value that contains it")
        if id(node) not in sizes:
            open_nodes.add(id(node))
            sizes[id(node)] = 1 + sum(map(size, _children(node)))
            open_nodes.remove(id(node))
        return sizes[id(node)]

    if (whole := size(root)) - len(sizes) > _MOST:
        raise yaml.YAMLError(
            f"its aliases (*name) make {whole} values of {len(sizes)}; at most {_MOST} more would be right"
        )


def _check_unique(root: yaml.Node) -> None:
    """Refuse mappings that set a key twice, of which YAML's readers take the last without a word."""
    waiting, seen = [root], {id(root)}
    while waiting:
        node = waiting.pop()
        lines: dict[str, int] = {}
        for key in (pair[0] for pair in node.value) if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            name, line = f"{key.tag} {key.value}", key.start_mark.line + 1
            if name in lines:
                raise yaml.YAMLError(
                    f"line {line} sets {key.value} again, after line {lines[name]}; keep one of them"
                )
            lines[name] = line
        fresh = [child for child in _children(node) if id(child) not in seen]
        seen |= {id(child) for child in fresh}
        waiting += fresh


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []
