"""Makes the page of all configuration keys while the docs site is built, from the classes themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pelagos.pipeline.runs.commands import STAGES, config_class
from pelagos.pipeline.runs.key_reference import Key, form_of, keys_of, purpose, sections_below
from pelagos.preprocessing.config import Config

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

PAGE = "reference/configuration.md"
HEAD = """# Every configuration key

Keys of the commands first, then of the sections that they hold, each described once. On a terminal:
`pelagos help COMMAND KEY`, such as `pelagos help pretrain loop.steps`. A key marked † may change when
a run is continued.
"""


def on_files(files: Files, *, config: MkDocsConfig) -> None:
    """Add the page to those of docs/."""
    from mkdocs.structure.files import File  # absent where only the tests run

    files.append(File.generated(config, PAGE, content=reference()))


def reference() -> str:
    """The page, in Markdown."""
    commands = {command: config_class(command) for command in STAGES}
    parts = [HEAD]
    for command, cls in commands.items():
        parts += [f"## {command} {{ #{_anchor(cls)} }}", STAGES[command].help, *_table(cls)]
    parts.append("## Sections")
    sections = (section for cls in commands.values() for section in sections_below(cls))
    for section in dict.fromkeys(sections):
        if section not in commands.values():
            parts += [f"### {_title(section)} {{ #{_anchor(section)} }}", purpose(section), *_table(section)]
    return "\n\n".join(parts) + "\n"


def _title(cls: type[Config]) -> str:
    return f"{cls.__name__}: `kind: {form_of(cls)}`" if form_of(cls) else cls.__name__


def _anchor(cls: type[Config]) -> str:
    return cls.__name__.lower()


def _table(cls: type[Config]) -> Iterator[str]:
    rows = [_row(key) for key in keys_of(cls)]
    yield "\n".join(["| key | values | default | meaning |", "|---|---|---|---|", *rows])


def _row(key: Key) -> str:
    links = ", ".join(f"[{form_of(one) or one.__name__}](#{_anchor(one)})" for one in key.sections)
    values = f"{key.values}: {links}" if links else key.values
    default = f"`{key.default}`" if key.default not in ("", "its own") else key.default or "required"
    mark = " †" if key.changeable else ""
    cells = (f"`{key.name}`{mark}", values, default, key.meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
