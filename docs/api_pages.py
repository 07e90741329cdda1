"""Makes the pages of the docs site that no file of docs/ holds: README and its neighbours, and one for each module."""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("preprocessing", "models", "evaluation", "pipeline")
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "CONTRIBUTING.md", "CHANGELOG.md": "CHANGELOG.md"}
LINK = re.compile(r"(!?)\[([^]]*)\]\(([^)\s]+)\)")


def on_config(config: MkDocsConfig) -> None:
    """Add the modules to the navigation, in the folders that they lie in."""
    assert config.nav is not None
    config.nav.append({"API": [{package: _entries(ROOT / package)} for package in PACKAGES]})


def on_files(files: Files, *, config: MkDocsConfig) -> None:
    """Add the pages to those of docs/."""
    for name, page in PAGES.items():
        text = LINK.sub(_inside_docs, (ROOT / name).read_text())
        files.append(File.generated(config, page, content=text))
    for package in PACKAGES:
        for module in _modules(ROOT / package):
            text = f"# {module.stem}\n\n`{_name(module)}`\n\n::: {_name(module)}\n"
            files.append(File.generated(config, _page(module), content=text))


def _entries(folder: Path) -> list[Any]:
    """The navigation of a folder: its modules, then its rooms."""
    modules: list[Any] = [_page(module) for module in _modules(folder) if module.parent == folder]
    rooms = sorted(path.parent for path in folder.glob("*/__init__.py"))
    return modules + [{room.name: _entries(room)} for room in rooms]


def _modules(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if not path.name.startswith("_"))


def _name(module: Path) -> str:
    return ".".join(("pelagos", *module.relative_to(ROOT).with_suffix("").parts))


def _page(module: Path) -> str:
    return f"api/{module.relative_to(ROOT).with_suffix('.md').as_posix()}"


def _inside_docs(link: re.Match[str]) -> str:
    """A link as it leads from within docs/; of one to a file that is no page, its text."""
    image, text, target = link.groups()
    path = PAGES.get(target, target.removeprefix("docs/"))
    is_page = "://" in target or target.startswith("#") or target in PAGES or target.startswith("docs/")
    return f"{image}[{text}]({path})" if is_page else text
