"""A run goes on with what it began with, and says what has changed; runs of before go on where nothing has."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pelagos.pipeline.runs.run_folder import fingerprint
from pelagos.pipeline.runs.run_inputs import RunInput, claim, recorded
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError


class Stage(Config):
    """A stage that starts from a model and a store."""

    model: str = "models:/ocean@champion"
    steps: int = 3


MODEL = RunInput("model", "models:/ocean@champion", "models:/ocean/3", "a" * 64)
STORE = RunInput("store waves.zarr", "waves.zarr", "waves.zarr", "b" * 64, before="c" * 64)


def begun(folder: Path) -> str:
    """A run that has begun to train; its fingerprint."""
    digest = claim(folder, Stage(), [STORE, MODEL])
    (folder / "checkpoints").mkdir()
    return digest


def test_the_fingerprint_holds_the_content_of_what_a_run_starts_from(tmp_path: Path) -> None:
    digest = begun(tmp_path / "run")
    assert claim(tmp_path / "run", Stage(), [STORE, MODEL]) == digest
    others = [replace(MODEL, checksum="d" * 64), replace(STORE, checksum="e" * 64)]
    digests = {claim(tmp_path / str(n), Stage(), [one]) for n, one in enumerate((STORE, MODEL, *others))}
    assert len({digest, *digests}) == 5


@pytest.mark.parametrize(
    ("inputs", "changed"),
    [
        (
            [STORE, replace(MODEL, checksum="d" * 64)],
            r"the model \(models:/ocean/3\) had the checksum a+ then and has d",
        ),
        (
            [replace(STORE, checksum="d" * 64), MODEL],
            r"the store waves\.zarr .* had the checksum b+ then",
        ),
    ],
)
def test_a_run_does_not_go_on_with_something_else(
    tmp_path: Path, inputs: list[RunInput], changed: str
) -> None:
    begun(tmp_path)
    with pytest.raises(ConfigError, match=changed):
        claim(tmp_path, Stage(), inputs)


def test_the_version_that_a_run_began_with_is_recorded(tmp_path: Path) -> None:
    assert recorded(tmp_path, "model") is None
    begun(tmp_path)
    assert recorded(tmp_path, "model") == MODEL
    assert recorded(tmp_path, "store waves.zarr") == replace(STORE, before="")


def test_another_configuration_is_told_from_other_inputs(tmp_path: Path) -> None:
    begun(tmp_path)
    with pytest.raises(ConfigError, match="holds a run of another configuration"):
        claim(tmp_path, Stage(steps=4), [STORE, MODEL])


def test_a_run_that_failed_before_it_trained_may_begin_with_something_else(tmp_path: Path) -> None:
    claim(tmp_path, Stage(), [STORE, MODEL])
    claim(tmp_path, Stage(), [STORE, replace(MODEL, checksum="d" * 64)])
    found = recorded(tmp_path, "model")
    assert found is not None
    assert found.checksum == "d" * 64


def of_before(folder: Path) -> str:
    """A run as earlier versions left it: its fingerprint held the metadata of stores, and nothing of models."""
    (folder / "checkpoints").mkdir(parents=True)
    digest = fingerprint(Stage(), STORE.before, changeable=True)
    (folder / "run.json").write_text(json.dumps({"fingerprint": digest}))
    return digest


def test_a_run_of_before_goes_on_under_its_fingerprint_and_is_recorded_from_then_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = of_before(tmp_path)
    assert claim(tmp_path, Stage(), [STORE, MODEL]) == digest
    said = capsys.readouterr().err
    assert "did not record the content of model models:/ocean/3" in said
    assert "waves.zarr" not in said
    assert claim(tmp_path, Stage(), [STORE, MODEL]) == digest
    assert capsys.readouterr().err == ""
    with pytest.raises(ConfigError, match=r"the model .* had the checksum"):
        claim(tmp_path, Stage(), [STORE, replace(MODEL, checksum="d" * 64)])


def test_a_run_of_before_does_not_go_on_with_another_store(tmp_path: Path) -> None:
    of_before(tmp_path)
    with pytest.raises(ConfigError, match="holds a run of another configuration"):
        claim(tmp_path, Stage(), [replace(STORE, before="f" * 64), MODEL])
