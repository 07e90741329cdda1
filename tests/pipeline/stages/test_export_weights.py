"""What is exported is what the other code wrote, and comes back as the same model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from typer.testing import CliRunner, Result

from pelagos.models.context import Signature
from pelagos.models.networks.credit.fuxi import FuXiConfig
from pelagos.models.networks.credit.wxformer import WXFormerConfig
from pelagos.models.networks.fourier.fno import FNOConfig
from pelagos.models.networks.scot.scot import ScOTConfig
from pelagos.pipeline.cli import app
from pelagos.pipeline.runs import published_folder
from pelagos.pipeline.runs.model_checksum import model_checksum
from pelagos.pipeline.runs.model_folder import Domain, Model, VariableScale, load
from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.variables import Variable
from tests.byte_changes import one_bit_changes

SCOT = ScOTConfig(
    preset="poseidon",
    embed_dim=8,
    depths=(1,),
    num_heads=(2,),
    skip_connections=(0,),
    window_size=4,
    image_size=32,
    learn_residual=True,
)
WXFORMER = WXFormerConfig(
    form="credit", dims=(4, 8, 16, 32), depths=(1, 1, 1, 1), head_dim=4, kernels=((4,), (2,), (2,), (2,))
)
FUXI = FuXiConfig(form="credit", dim=32, depth=1, num_heads=2, groups=4, spectral_norm=False)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def done(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def save(folder: Path, config: Any, shape: tuple[int, int] = (32, 32)) -> Path:
    """A model that forecasts u, and a rain of which it is given nothing, from u and a mask."""
    inputs = (Variable(name="u", units="m s-1"), Variable(name="mask", role="static"))
    outputs = (inputs[0], Variable(name="rain", role="diagnostic"))
    scales = {
        key: VariableScale(mean=0.5, std=number + 1) for number, key in enumerate(("u", "mask", "rain"))
    }
    domain = Domain(inputs=inputs, outputs=outputs, scales=scales, time_scale=6.0)
    signature = Signature(("u", "mask"), ("u", "rain"), shape=shape)
    torch.manual_seed(0)
    Model(config, config.build(signature), signature, {"weather": domain}).save(folder)
    return folder


def assert_same_bits(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert sorted(found) == sorted(expected)
    for name, weight in expected.items():
        assert torch.equal(found[name], weight), name


@pytest.mark.parametrize(
    ("layout", "config"),
    [("poseidon", SCOT), ("credit", WXFORMER), ("credit", FUXI)],
    ids=lambda value: getattr(value, "kind", value),
)
def test_what_is_exported_and_imported_again_is_the_same_network(
    tmp_path: Path, layout: str, config: Any
) -> None:
    trained = save(tmp_path / "model", config)
    done("models", "export", trained, tmp_path / "out", "--to", layout)
    done("import", tmp_path / "out", tmp_path / "again")
    first, second = load(trained), load(tmp_path / "again")
    assert_same_bits(second.network.state_dict(), first.network.state_dict())
    assert second.config == first.config
    assert second.signature == first.signature
    assert second.domains == first.domains


@pytest.mark.parametrize("name", ["a", "b", "c", "d"])
def test_poseidons_weights_leave_with_the_bits_that_they_came_with(
    shared: Path, tmp_path: Path, name: str
) -> None:
    fixture = shared / "fixtures/scot" / name
    arguments = json.loads((fixture / "config.json").read_text())["scot_kwargs"]
    published = tmp_path / "published"
    published.mkdir()
    (published / "config.json").write_text(json.dumps(arguments))
    (published / "model.safetensors").write_bytes((fixture / "weights.safetensors").read_bytes())
    outputs, statics = (
        arguments["num_out_channels"],
        arguments["num_channels"] - arguments["num_out_channels"],
    )
    exported = round_trip(tmp_path, ["prognostic"] * outputs + ["static"] * statics, "poseidon")
    assert_same_bits(load_file(exported / "model.safetensors"), load_file(fixture / "weights.safetensors"))
    assert arguments.items() <= json.loads((exported / "config.json").read_text()).items()


@pytest.mark.parametrize(("name", "kind"), [("a", "wxformer"), ("c", "crossformer"), ("d", "fuxi")])
def test_credits_weights_leave_with_the_bits_that_they_came_with(
    shared: Path, tmp_path: Path, name: str, kind: str
) -> None:
    fixture = shared / "fixtures/credit" / name
    arguments = json.loads((fixture / "config.json").read_text())["model"]
    state = load_file(fixture / "weights.safetensors")
    published = tmp_path / "published"
    published.mkdir()
    (published / "model.yml").write_text(yaml.safe_dump({"model": {"type": kind, **arguments}}))
    torch.save({"model_state_dict": state}, published / "checkpoint.pt")
    diagnostic = ["diagnostic"] * arguments["output_only_channels"]
    forcings = ["forcing"] * arguments["input_only_channels"]
    both = arguments["channels"] * arguments["levels"] + arguments["surface_channels"]
    exported = round_trip(tmp_path, ["prognostic"] * both + forcings + diagnostic, "credit")
    found = load_file(exported / "model_state_dict.safetensors")
    # Weights that the reference allocates and never uses are not kept.
    used = {name: weight for name, weight in state.items() if not name.startswith("cube_embedding")}
    assert set(found) == set(state)
    assert_same_bits({name: found[name] for name in used}, used)
    assert yaml.safe_load((exported / "model.yml").read_text())["model"].items() >= arguments.items()


def round_trip(folder: Path, roles: list[str], layout: str) -> Path:
    """Where the import of the folder `published` is exported to."""
    channels = [{"name": f"f{i}", "role": role, "mean": 0.0, "std": 1.0} for i, role in enumerate(roles)]
    (folder / "facts.yaml").write_text(yaml.safe_dump({"time_scales": {"one": 1.0}, "channels": channels}))
    done("import", folder / "published", folder / "model", "--facts", folder / "facts.yaml")
    done("models", "export", folder / "model", folder / "exported", "--to", layout)
    return folder / "exported"


def test_a_published_folder_holds_the_model_to_the_byte(tmp_path: Path) -> None:
    trained = save(tmp_path / "model", FNOConfig(width=2, modes=(1, 1), num_layers=1), (4, 4))
    done("models", "export", trained, tmp_path / "hub")
    assert sorted(file.name for file in (tmp_path / "hub").iterdir()) == [
        "README.md",
        "SHA256SUMS",
        "config.json",
        "model.safetensors",
    ]
    card = (tmp_path / "hub/README.md").read_text()
    header = yaml.safe_load(card.split("---\n")[1])
    assert header == {"library_name": "pelagos", "tags": ["pelagos", "fno"]}
    for words in (model_checksum(trained), "from u, mask to u, rain", "Not stated", "None were recorded"):
        assert words in card
    published_folder.restore(tmp_path / "hub", tmp_path / "again")
    for name in ("model.json", "weights.safetensors", "SHA256SUMS"):
        assert (tmp_path / "again" / name).read_bytes() == (trained / name).read_bytes()


def test_sixty_changes_of_a_byte_of_a_published_folder_are_refused(tmp_path: Path) -> None:
    trained = save(tmp_path / "model", FNOConfig(width=2, modes=(1, 1), num_layers=1), (4, 4))
    done("models", "export", trained, tmp_path / "hub")
    rng = np.random.default_rng(0)
    for file in sorted((tmp_path / "hub").iterdir()):
        for _ in one_bit_changes(file, 15, rng):
            with pytest.raises(DamagedFileError):
                published_folder.restore(tmp_path / "hub", tmp_path / "again")
            assert not (tmp_path / "again").exists()


def test_one_file_of_safetensors_holds_weights_and_description(tmp_path: Path) -> None:
    trained = save(tmp_path / "model", FNOConfig(width=2, modes=(1, 1), num_layers=1), (4, 4))
    file = tmp_path / "one.safetensors"
    done("models", "export", trained, file, "--to", "safetensors")
    assert_same_bits(load_file(file), load_file(trained / "weights.safetensors"))
    with safe_open(file, "pt") as opened:
        assert json.loads(opened.metadata()["pelagos"]) == json.loads((trained / "model.json").read_text())


@pytest.mark.parametrize(
    ("layout", "config", "message"),
    [
        ("poseidon", FNOConfig(width=2, modes=(1, 1), num_layers=1), "has networks of kind scot, not fno"),
        (
            "poseidon",
            ScOTConfig(embed_dim=8, depths=(1,), num_heads=(2,), skip_connections=(0,)),
            "no network with",
        ),
        ("credit", SCOT, "networks of kind wxformer and fuxi, not scot"),
        ("credit", FUXI.model_copy(update={"form": "pelagos"}), "no fuxi of form pelagos"),
        ("onnx", SCOT, "--to must be one of huggingface"),
    ],
    ids=range(5),
)
def test_what_the_other_code_does_not_have_is_refused(
    tmp_path: Path, layout: str, config: Any, message: str
) -> None:
    result = run("models", "export", save(tmp_path / "model", config), tmp_path / "out", "--to", layout)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()
