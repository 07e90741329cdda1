"""A model that is published comes back with its checksum; whatever the hub says is a message."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from typer.testing import CliRunner, Result

from pelagos.models.context import Signature
from pelagos.models.networks.fourier.fno import FNOConfig
from pelagos.pipeline.cli import app
from pelagos.pipeline.runs.model_checksum import model_checksum
from pelagos.pipeline.runs.model_folder import Model


class Hub:
    """A hub in a folder, with the calls of `huggingface_hub` that are used."""

    def __init__(self, root: Path) -> None:
        self.root, self.private = root, {}  # type: ignore[var-annotated]

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> None:
        self.private.setdefault(repo_id, private)

    def upload_folder(self, *, repo_id: str, folder_path: Path, revision: str, commit_message: str) -> Any:
        shutil.copytree(folder_path, self.root / repo_id / revision)
        return SimpleNamespace(commit_url=f"https://hub/{repo_id}/commit/1")

    def snapshot_download(
        self, repo_id: str, *, revision: str, local_dir: str, allow_patterns: list[str]
    ) -> None:
        for file in (self.root / repo_id / revision).iterdir():
            if file.name in allow_patterns:
                shutil.copy(file, local_dir)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    found = Hub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: found)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", found.snapshot_download)
    return found


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


def test_a_published_model_comes_back_with_its_checksum(hub: Hub, model: Path, tmp_path: Path) -> None:
    pushed = run("push", model, "ocean/waves")
    assert pushed.stdout == "published: https://hub/ocean/waves/commit/1\n"
    assert hub.private == {"ocean/waves": True}
    # What others add to a repository is not fetched.
    (hub.root / "ocean/waves/main/setup.py").write_text("raise SystemExit\n")
    pulled = run("pull", "ocean/waves", tmp_path / "again")
    assert pulled.stdout == f"model: {tmp_path}/again\n"
    assert model_checksum(tmp_path / "again") == model_checksum(model)
    assert sorted(file.name for file in (tmp_path / "again").iterdir()) == [
        "SHA256SUMS",
        "model.json",
        "weights.safetensors",
    ]


def test_a_model_that_was_changed_on_the_hub_is_refused(hub: Hub, model: Path, tmp_path: Path) -> None:
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
    hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch, status: int, code: int
) -> None:
    class Refusal(huggingface_hub.errors.HfHubHTTPError):
        def __init__(self) -> None:
            Exception.__init__(self, "no")
            self.response = SimpleNamespace(status_code=status)  # type: ignore[assignment]

    def refuse(*arguments: Any, **options: Any) -> None:
        raise Refusal

    monkeypatch.setattr(hub, "create_repo", refuse)
    result = run("push", model, "ocean/waves")
    assert result.exit_code == code
    assert "Hugging Face" in result.stderr
