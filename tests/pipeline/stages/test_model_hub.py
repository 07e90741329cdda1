"""A model that is published comes back with its checksum; whatever the hub says is a message."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pelagos.models.context import Signature
from pelagos.models.networks.fourier.fno import FNOConfig
from pelagos.pipeline.cli import app
from pelagos.pipeline.runs.model_checksum import model_checksum
from pelagos.pipeline.runs.model_folder import Model
from tests.pipeline.hub_server import HubServer, serve_hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    with serve_hub(tmp_path / "hub") as found:
        yield found


@pytest.fixture
def model(tmp_path: Path) -> Path:
    config, signature = (
        FNOConfig(width=2, modes=(1, 1), num_layers=1),
        Signature(("u",), ("u",), shape=(4, 4)),
    )
    Model(config, config.build(signature), signature, {}).save(tmp_path / "model")
    return tmp_path / "model"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["models", *map(str, arguments)])


def test_a_published_model_comes_back_with_its_checksum(hub: HubServer, model: Path, tmp_path: Path) -> None:
    pushed = run("push", model, "ocean/waves")
    assert pushed.exit_code == 0, pushed.output
    assert re.fullmatch(r"published: http://127.0.0.1:\d+/ocean/waves/commit/1\n", pushed.stdout)
    assert hub.created["ocean/waves"]["visibility"] == "private"
    # In one commit: no reader sees new weights beside an old description.
    assert hub.commits == [["README.md", "SHA256SUMS", "config.json", "model.safetensors"]]
    # What others add to a repository is not fetched.
    (hub.root / "ocean/waves/main/setup.py").write_text("raise SystemExit\n")
    pulled = run("pull", "ocean/waves", tmp_path / "again")
    assert pulled.stdout.startswith(f"model: {tmp_path}/again\n")
    assert model_checksum(tmp_path / "again") == model_checksum(model)
    assert sorted(file.name for file in (tmp_path / "again").iterdir()) == [
        "SHA256SUMS",
        "model.json",
        "weights.safetensors",
    ]


def test_a_model_that_was_changed_on_the_hub_is_refused(hub: HubServer, model: Path, tmp_path: Path) -> None:
    run("push", model, "ocean/waves")
    weights = hub.root / "ocean/waves/main/model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    pulled = run("pull", "ocean/waves", tmp_path / "again")
    assert pulled.exit_code == 1
    assert "model.safetensors fails its checksum" in pulled.stderr
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize(("status", "code"), [(403, 1), (503, 74)])
def test_what_the_hub_answers_says_whether_trying_again_helps(
    hub: HubServer, model: Path, tmp_path: Path, status: int, code: int
) -> None:
    hub.refusal = status
    for command in (("push", model, "ocean/waves"), ("pull", "ocean/waves", tmp_path / "again")):
        result = run(*command)
        assert result.exit_code == code, result.output
        assert "Hugging Face" in result.stderr


def test_a_published_folder_is_pulled_and_inspected_without_a_hub(model: Path, tmp_path: Path) -> None:
    run("export", model, tmp_path / "published")
    told = CliRunner().invoke(app, ["inspect", str(tmp_path / "published")])
    assert model_checksum(model)[:16] in told.stdout
    assert f"pelagos models pull {tmp_path}/published FOLDER" in told.stdout
    assert run("pull", tmp_path / "published", tmp_path / "again").exit_code == 0
    assert model_checksum(tmp_path / "again") == model_checksum(model)
