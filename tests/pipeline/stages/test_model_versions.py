"""What a registry holds is listed, shown and compared; a change of any byte is found."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from pelagos.models.context import Signature
from pelagos.models.networks.fourier.fno import FNOConfig
from pelagos.pipeline.cli import app
from pelagos.pipeline.runs.model_checksum import model_checksum
from pelagos.pipeline.runs.model_folder import Model
from pelagos.pipeline.stages.register import RegisterStage, run
from pelagos.pipeline.tracking import model_registry
from pelagos.pipeline.tracking.tracker import TrackingConfig


def save(folder: Path, weight: float, note: str) -> Path:
    config = FNOConfig(width=2, modes=(1, 1), num_layers=1)
    signature = Signature(("u",), ("u",), shape=(4, 4))
    torch.manual_seed(0)
    network = config.build(signature)
    torch.nn.init.constant_(next(network.parameters()), weight)
    Model(config, network, signature, {}, {"note": note}).save(folder)
    return folder


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> TrackingConfig:
    """Two versions of `ocean`, `champion` on the first and `newest` on the second, and one of `lake`."""
    folder = tmp_path_factory.mktemp("registry")
    tracking = TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db")
    for name, alias, weight in (
        ("ocean", "champion", 1.0),
        ("ocean", "newest", 2.0),
        ("lake", "newest", 3.0),
    ):
        model = save(folder / f"{name}-{weight}", weight, name)
        run(RegisterStage(model=model, name=name, alias=alias, tracking=tracking))
    return tracking


def pelagos(registry: TrackingConfig, *arguments: object) -> Result:
    return CliRunner().invoke(app, ["models", *map(str, arguments), "--uri", registry.uri])


def test_versions_are_listed_with_their_aliases(registry: TrackingConfig) -> None:
    found = json.loads(pelagos(registry, "list", "--json").stdout)
    assert [(one["name"], one["version"], one["aliases"]) for one in found] == [
        ("lake", 1, ["newest"]),
        ("ocean", 1, ["champion"]),
        ("ocean", 2, ["newest"]),
    ]
    table = pelagos(registry, "list", "ocean").stdout
    assert "models:/ocean/2  newest" in table
    assert "lake" not in table
    missing = pelagos(registry, "list", "sea")
    assert missing.exit_code == 1
    assert "there are: lake, ocean" in missing.stderr


def test_a_version_is_shown_with_its_network_history_and_checksum(registry: TrackingConfig) -> None:
    shown = json.loads(pelagos(registry, "show", "models:/ocean@champion", "--json").stdout)
    folder = model_registry.resolve("models:/ocean/1", registry)
    assert shown["checksum"] == shown["tags"]["pelagos.checksum"] == model_checksum(folder)
    assert shown["network"]["kind"] == "fno"
    assert shown["history"] == {"note": "ocean"}


def test_versions_differ_by_what_is_said_and_equal_ones_by_nothing(registry: TrackingConfig) -> None:
    result = pelagos(registry, "diff", "models:/ocean/1", "models:/lake/1", "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert found.pop("history.note") == ["ocean", "lake"]
    [(name, (norm, change))] = found.items()
    # A constant weight of 1 became 3, so its norm has grown by twice itself.
    assert name.startswith("weights.")
    assert float(change.removeprefix("differs by ")) == pytest.approx(
        2 * float(norm.removeprefix("norm ")), rel=1e-2
    )
    same = pelagos(registry, "diff", "models:/ocean@champion", "models:/ocean/1")
    assert (same.exit_code, same.stdout) == (0, "the same network, data, history and weights\n")


def test_verify_names_the_damaged_version_of_several(registry: TrackingConfig) -> None:
    assert pelagos(registry, "verify", "models:/ocean").stdout.count("every file is as it was written") == 2
    weights = model_registry.resolve("models:/ocean/2", registry) / "weights.safetensors"
    content = weights.read_bytes()
    try:
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        damaged = pelagos(registry, "verify", "models:/ocean")
    finally:
        weights.write_bytes(content)
    assert damaged.exit_code == 1
    assert "1 of 2 model(s) are damaged" in damaged.stderr
    assert "models:/ocean/2: " in damaged.stderr
