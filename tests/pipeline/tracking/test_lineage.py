"""Lineage: what a run recorded goes with the version into the registry, and comes back from there."""

import json
from pathlib import Path

import pytest

from pelagos.models.context import Signature
from pelagos.models.networks.fourier.fno import FNOConfig
from pelagos.pipeline.runs.model_folder import Model
from pelagos.pipeline.stages.register import RegisterStage, run
from pelagos.pipeline.tracking import model_registry
from pelagos.pipeline.tracking.lineage import LINEAGE, Lineage, lineage_of

RECORD = {
    "fingerprint": "f",
    "code": [{"versions": {}, "revision": "older"}, {"versions": {}, "revision": "newer"}],
    "inputs": {
        "model": {"reference": "models:/base@champion", "found": "models:/base/3", "checksum": "abc"},
        "store stores/waves-1.zarr": {"reference": "", "found": "", "checksum": "def"},
    },
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Of a run that fine-tuned another one."""
    config, signature = (
        FNOConfig(width=2, modes=(1, 1), num_layers=1),
        Signature(("u",), ("u",), shape=(4, 4)),
    )
    history: dict[str, object] = {"pretrained": {}, "finetuned": {}}
    Model(config, config.build(signature), signature, {}, history).save(tmp_path / "run" / "model")
    (tmp_path / "run" / "run.json").write_text(json.dumps(RECORD))
    return tmp_path / "run" / "model"


def test_a_version_says_what_its_model_was_made_from(model: Path, tmp_path: Path) -> None:
    tracking = {"uri": f"sqlite:///{tmp_path}/mlflow.db"}
    values = {"model": model, "name": "waves", "licence": "CC-BY-4.0", "tracking": tracking}
    config = RegisterStage.model_validate(values)
    run(config)
    version = model_registry.version("models:/waves@champion", config.tracking)
    folder = model_registry.resolve(version.reference, config.tracking)
    kept = lineage_of(folder, [])
    expected = {
        "stage": "finetuned",
        "commit": "newer",
        "parent": "models:/base/3",
        "parent_checksum": "abc",
        "licence": "CC-BY-4.0",
        "data.waves-1.zarr": "def",
    }
    assert {f"pelagos.{name}": value for name, value in expected.items()}.items() <= version.tags.items()
    assert kept.tags().items() <= version.tags.items()
    assert kept.stores == {"stores/waves-1.zarr": "def"}
    card = (folder.parent / "README.md").read_text()
    for text in ("license: cc-by-4.0", "commit newer", "continues models:/base/3", "`abc`", "checksum `def`"):
        assert text in card


@pytest.mark.parametrize("name", [LINEAGE, "run.json"])
def test_what_cannot_be_read_is_said(model: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    (model.parent / name).write_text("{")
    assert lineage_of(model, ["pretrained"]) == Lineage(stage="pretrained")
    assert f"{name} is damaged" in capsys.readouterr().err
