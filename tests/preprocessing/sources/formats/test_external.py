"""External sources: any class by its import path, or what is wrong with it."""

from pathlib import Path

import pytest
import xarray as xr
from analytic_source import configuration

from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.sources.formats.external import ExternalSource
from tests.preprocessing.sources.datasets import dataset

HERE = "tests.preprocessing.sources.formats.test_external"


class Made:
    def __init__(self, name: str = "made") -> None:
        self.name = name

    def open(self) -> xr.Dataset:
        return dataset(("u",), name=self.name)


class Text:
    def open(self) -> str:
        return "a text"


def test_a_class_is_made_with_its_arguments_and_opened() -> None:
    source = ExternalSource(kind="external", path=f"{HERE}:Made", args={"name": "mine"})
    assert source.open().attrs["dataset"] == "mine"


@pytest.mark.parametrize(
    ("path", "args", "message"),
    [
        (
            "nowhere.at.all:Made",
            {},
            r"cannot make 'nowhere\.at\.all:Made' \(package\.module:Class\): No module",
        ),
        (f"{HERE}:Nothing", {}, "cannot make .* has no attribute 'Nothing'"),
        (f"{HERE}:Made", {"title": "a"}, "cannot make .* unexpected keyword argument 'title'"),
        (f"{HERE}:Text", {}, r"Text opens a str, not an xarray\.Dataset"),
    ],
)
def test_what_is_wrong_with_a_class_is_said(path: str, args: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ExternalSource(kind="external", path=path, args=args).open()


def test_a_build_says_why_its_source_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)cannot make 'analytic_source:Analytic'.*colour"):
        build(configuration(tmp_path, {"colour": "red"}))
