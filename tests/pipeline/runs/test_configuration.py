"""Configuration files: merging, overrides, and errors that help."""

from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from pelagos.models.networks.network import NetworkConfig
from pelagos.pipeline.runs import configuration
from pelagos.pipeline.runs.commands import config_class
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError, MissingFileError


class Inner(Config):
    rate: float = 1e-3
    kind: Literal["a", "b"] = "a"


class Outer(Config):
    steps: int = Field(gt=0)
    inner: Inner = Inner()
    names: tuple[str, ...] = ()


def written(folder: Path, text: str, name: str = "run.yaml") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_overrides_reach_into_mappings_and_lists(tmp_path: Path) -> None:
    file = written(tmp_path, "steps: 3\nnames: [x, y]\n")
    loaded = configuration.load(file, ["inner.rate=1e-4", "names.1=z", "steps=5"], Outer)
    assert loaded == Outer(steps=5, inner=Inner(rate=1e-4), names=("x", "z"))


def test_extends_merges_mappings_and_replaces_lists(tmp_path: Path) -> None:
    written(tmp_path, "steps: 3\ninner: {rate: 0.1, kind: b}\nnames: [x, y]\n", "base.yaml")
    file = written(tmp_path, "extends: base.yaml\ninner: {rate: 0.2}\nnames: [z]\n")
    loaded = configuration.load(file, [], Outer)
    assert loaded.names == ("z",)
    assert loaded.inner.rate == 0.2


def test_a_mapping_of_another_kind_is_replaced_whole() -> None:
    merged = configuration.merge({"net": {"kind": "a", "width": 3}}, {"net": {"kind": "b"}})
    assert merged == {"net": {"kind": "b"}}


def test_all_errors_are_listed_with_their_dotted_keys(tmp_path: Path) -> None:
    file = written(tmp_path, "steps: -1\ninner: {rat: 0.1, rate: fast}\n")
    with pytest.raises(ConfigError) as raised:
        configuration.load(file, [], Outer)
    message = str(raised.value)
    assert str(file) in message
    assert "3 error(s)" in message
    assert "steps: Input should be greater than 0 (found -1)" in message
    assert "inner.rat: unknown key; did you mean 'rate'?" in message
    assert "inner.rate: Input should be a valid number" in message


def test_a_section_without_its_kind_is_told_what_is_missing(tmp_path: Path) -> None:
    class Run(Config):
        network: NetworkConfig

    with pytest.raises(ConfigError, match=r"network\.kind: missing; it selects the form"):
        configuration.load(written(tmp_path, "network: {width: 8}\n"), [], Run)


def test_numbers_in_scientific_notation_need_no_dot(tmp_path: Path) -> None:
    assert (
        configuration.load(written(tmp_path, "steps: 1\ninner: {rate: 2e-4}"), [], Outer).inner.rate == 2e-4
    )


@pytest.mark.parametrize("override", ["steps", "=3", "names.7=x", "steps.deep=1"])
def test_an_override_that_fits_nothing_is_refused(tmp_path: Path, override: str) -> None:
    file = written(tmp_path, "steps: 1\nnames: [x]\n")
    with pytest.raises(ConfigError, match="override"):
        configuration.load(file, [override], Outer)


def test_a_missing_file_names_shipped_ones_that_are_near() -> None:
    with pytest.raises(MissingFileError, match="demo"):
        configuration.find_config("demoo")


@pytest.mark.parametrize(("text", "expected"), [("a: [", "not valid YAML"), ("- a\n", "must hold a mapping")])
def test_text_that_is_no_mapping_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        configuration.load(written(tmp_path, text), [], Outer)


def test_what_is_dumped_loads_as_the_same_configuration(tmp_path: Path) -> None:
    original = Outer(steps=2, inner=Inner(kind="b"), names=("x",))
    assert configuration.load(written(tmp_path, configuration.dump(original)), [], Outer) == original


def test_a_misspelt_key_is_taken_for_one_of_its_own_section() -> None:
    values = {"command": "pretrain", "loop": {"stesp": 3}}
    with pytest.raises(ConfigError, match=r"loop\.stesp: unknown key; did you mean 'steps'\?"):
        configuration.validate(values, config_class("pretrain"), "a.yaml")


def test_a_key_of_another_kind_of_the_section_is_not_meant_by_itself() -> None:
    values = {"command": "pretrain", "network": {"kind": "fno", "per_sample": True}}
    with pytest.raises(
        ConfigError, match=r"network\.per_sample: unknown key here; it belongs to another kind"
    ):
        configuration.validate(values, config_class("pretrain"), "a.yaml")


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("seeds", "did you mean 'seed'"),
        ("growth", "did you mean 'schedule.growth'"),
        ("nonsense", "unknown key$"),
    ],
)
def test_a_key_of_another_section_is_named_with_that_section(key: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=rf"(?m){key}: .*{meant}"):
        configuration.validate({"command": "pretrain", key: 3}, config_class("pretrain"), "a.yaml")
