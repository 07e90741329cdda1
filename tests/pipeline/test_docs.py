"""What the documentation shows is what the commands take."""

import ast
import importlib.util
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pelagos.pipeline.runs.commands import STAGES, config_class
from pelagos.pipeline.runs.configuration import validate
from pelagos.pipeline.runs.key_reference import keys_of
from pelagos.preprocessing.build.build_config import BuildConfig

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.glob("*.md")), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md"))]
FOLDERS = (
    "pelagos",
    "preprocessing",
    "models",
    "evaluation",
    "pipeline",
    "slurm",
    "tests",
    "benchmarks",
    "docs",
)
EXAMPLES = [
    (page.name, number, text)
    for page in sorted(DOCS.glob("*.md"))
    for number, text in enumerate(re.findall(r"```yaml\n(command:.*?)```", page.read_text(), re.DOTALL))
]


@pytest.mark.parametrize(("page", "number", "text"), EXAMPLES, ids=lambda value: str(value)[:20])
def test_every_example_is_a_configuration(page: str, number: int, text: str) -> None:
    values = yaml.safe_load(text)
    validate(values, config_class(values["command"]), f"{page}, example {number}")


def test_the_page_on_building_names_every_option() -> None:
    page = (DOCS / "build.md").read_text()
    others = {"dataset", "version", "source", "root", "overwrite", "splits"}
    absent = [name for name in BuildConfig.model_fields if name not in others and f"`{name}" not in page]
    assert not absent


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_and_module_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    files = set(re.findall(r"[\w/]+\.(?:py|sh|sbatch)\b", text))
    there = [f"/{path.relative_to(ROOT)}" for folder in FOLDERS for path in (ROOT / folder).rglob("*.*")]
    assert not [name for name in files if not any(path.endswith(f"/{name}") for path in there)]
    for name in re.findall(r"pelagos(?:\.[a-z]\w*){2,}", text):
        assert pkgutil.resolve_name(name)


def test_the_reference_of_keys_has_a_row_for_each_and_no_dead_link() -> None:
    spec = importlib.util.spec_from_file_location("key_pages", DOCS / "key_pages.py")
    assert spec is not None
    assert spec.loader is not None
    pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pages)
    page = pages.reference()
    for command in STAGES:
        section = page.partition(f"## {command} ")[2].partition("\n## ")[0]
        rows = re.findall(r"^\| `(\w+)`", section, re.MULTILINE)
        assert rows == [key.name for key in keys_of(config_class(command))]
    assert set(re.findall(r"\(#(\w+)\)", page)) <= set(re.findall(r"\{ #(\w+) \}", page))


def test_the_messages_on_the_page_of_problems_are_those_of_the_code() -> None:
    said = "\n".join(
        text
        for folder in ("preprocessing", "models", "evaluation", "pipeline")
        for text in _texts(ROOT / folder)
    )
    rows = re.findall(r"^\| `([^`]+)`", (DOCS / "problems.md").read_text(), re.MULTILINE)
    assert len(rows) > 20
    patterns = {
        row: "[^\\n]*?".join(re.escape(part) for part in row.split("…") if part.strip()) for row in rows
    }
    assert [row for row, pattern in patterns.items() if not re.search(pattern, said)] == []


def _texts(folder: Path) -> Iterator[str]:
    """The texts in the code of a folder, those of f-strings with … for what differs."""
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
                yield "".join(map(str, parts)).replace("\n", " ")
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value.replace("\n", " ")
