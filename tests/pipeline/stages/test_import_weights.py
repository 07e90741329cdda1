"""Published folders become models whose forecasts are the reference's outputs; what is not known is asked for."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
import yaml
from numpy.typing import NDArray
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from pelagos.evaluation.forecast_zarr import read_forecasts
from pelagos.models.context import Signature
from pelagos.models.networks.compat import load_fuxi, load_scot, save_scot
from pelagos.models.networks.scot.scot import ScOTConfig
from pelagos.pipeline.cli import app
from pelagos.pipeline.runs import model_folder
from pelagos.pipeline.stages import finetune, forecast
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.sources import convention

STEP = 0.5
"""Time between the frames of the stores, in seconds."""


class Frames:
    """A source of fields (trajectory, time, y, x) in an .npz file, their roles beside."""

    def __init__(self, file: str, roles: dict[str, Any], latlon: bool) -> None:
        self.file, self.roles, self.latlon = file, roles, latlon

    def open(self) -> xr.Dataset:
        fields = np.load(self.file)
        variables = {
            name: xr.Variable(
                ("trajectory", "y", "x") if role == "static" else convention.TIME_DIMS,
                fields[name][:, 0] if role == "static" else fields[name],
                convention.attrs(name, role),
            )
            for name, role in self.roles.items()
        }
        count, times, height, width = fields[next(iter(self.roles))].shape
        if self.latlon:
            axes = np.linspace(80, -80, height), np.arange(width) * 360 / width
            grid = Grid("latlon", *axes, ("pole", "pole"), ("periodic", "periodic"))
        else:
            grid = Grid("cartesian", np.arange(height) / height, np.arange(width) / width)
        return convention.assemble(
            variables,
            grid=grid,
            time=np.arange(times) * STEP,
            time_units="s",
            dataset="frames",
            source_format="test",
            sources=(),
            num_trajectories=count,
        )


def facts(roles: list[str], time_scale: float = STEP) -> dict[str, Any]:
    """Channels of these roles, each with a scale of its own."""
    channels = [
        {"name": f"field_{i}", "role": role, "mean": 0.5 * i - 1, "std": 0.5 + 0.1 * i}
        for i, role in enumerate(roles)
    ]
    return {"time_scales": {"frames": time_scale}, "channels": channels}


def store(folder: Path, said: dict[str, Any], *frames_BCHW: NDArray[Any], latlon: bool = False) -> Path:
    """A store whose first frames are these inputs, normalised as said; three more are zero."""
    inputs = [channel for channel in said["channels"] if channel["role"] != "diagnostic"]
    fields = {}
    for channel in said["channels"]:
        known = np.zeros((len(frames_BCHW), *frames_BCHW[0][:, 0].shape))
        if channel in inputs:
            frames = [x_BCHW[:, inputs.index(channel)] for x_BCHW in frames_BCHW]
            known = np.stack(frames) * channel["std"] + channel["mean"]
        zeros = np.zeros((3, *known.shape[1:]))
        fields[channel["name"]] = np.concatenate([known, zeros]).swapaxes(0, 1).astype(np.float32)
    np.savez(folder / "frames.npz", **fields)  # type: ignore[arg-type]  # its other keyword is a flag
    roles = {channel["name"]: channel["role"] for channel in said["channels"]}
    args = {"file": str(folder / "frames.npz"), "roles": roles, "latlon": latlon}
    values = {
        "dataset": "frames",
        "source": {"kind": "external", "path": f"{__name__}:Frames", "args": args},
        "root": folder / "stores",
        "splits": {"kind": "trajectories"},
    }
    return build(BuildConfig.model_validate(values))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def imported(folder: Path, said: dict[str, Any]) -> Path:
    """The model that the command makes of the folder `published`."""
    (folder / "facts.yaml").write_text(yaml.safe_dump(said))
    result = run("import", folder / "published", folder / "model", "--facts", folder / "facts.yaml")
    assert result.exit_code == 0, result.output
    return folder / "model"


def forecasts(
    folder: Path, said: dict[str, Any], trained: Path, data: Path, mode: str = "rollout", **starts: int
) -> NDArray[Any]:
    """(step, trajectory, channel, y, x) forecasts, normalised as said."""
    values = {
        "model": str(trained),
        "store": data,
        "output": folder / "forecasts.zarr",
        "overwrite": True,
        "mode": mode,
        "starts": {"split": "train", **starts},
    }
    made = read_forecasts(forecast.run(forecast.ForecastStage.model_validate(values)))
    outputs = [c for c in said["channels"] if c["role"] in ("prognostic", "diagnostic")]
    fields = [(made[c["name"]].values[:, 0] - c["mean"]) / c["std"] for c in outputs]
    return np.stack(fields, 2).swapaxes(0, 1)


def publish_poseidon(folder: Path, fixture: Path, file: str) -> tuple[dict[str, Any], Any]:
    """The fixture's network as Poseidon's are published; its arguments and tensors."""
    config = json.loads((fixture / "config.json").read_text())
    (folder / "published").mkdir()
    (folder / "published/config.json").write_text(json.dumps(config["hf_config"] | config["scot_kwargs"]))
    weights = fixture / "weights.safetensors"
    if file.endswith(".bin"):
        torch.save(load_file(weights), folder / "published" / file)
    else:
        (folder / "published" / file).write_bytes(weights.read_bytes())
    return config["scot_kwargs"], np.load(fixture / "io.npz")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("a", "model.safetensors"),
        ("b", "pytorch_model.bin"),
        ("c", "model.safetensors"),
        ("d", "model.safetensors"),
    ],
)
def test_forecasts_of_poseidons_folders_are_the_references_outputs(
    shared: Path, tmp_path: Path, name: str, file: str
) -> None:
    arguments, files = publish_poseidon(tmp_path, shared / "fixtures/scot" / name, file)
    num_inputs, num_outputs = arguments["num_channels"], arguments["num_out_channels"]
    time = float(files["time"][0]) if arguments["use_conditioning"] else 1.0
    said = facts(
        ["prognostic"] * num_outputs + ["static"] * (num_inputs - num_outputs), time_scale=STEP / time
    )
    data = store(tmp_path, said, files["pixel_values"][:1])
    [found] = forecasts(tmp_path, said, imported(tmp_path, said), data)
    np.testing.assert_allclose(found, files["output_f32"][:1], rtol=0, atol=2e-3)


def publish_credit(
    folder: Path, fixture: Path, kind: str, *, bare: bool = False
) -> tuple[dict[str, Any], Any]:
    """The fixture's network as CREDIT's are published; its arguments and tensors."""
    arguments = json.loads((fixture / "config.json").read_text())["model"]
    state = load_file(fixture / "weights.safetensors")
    published = folder / "published"
    published.mkdir()
    text = yaml.safe_dump({"save_loc": "/somewhere", "model": {"type": kind, **arguments}})
    (published / "model.yml").write_text(text)
    if bare:
        torch.save(state, published / "model_checkpoint.pt")
    else:
        torch.save({"epoch": 3, "model_state_dict": state}, published / "checkpoint.pt")
    return arguments, np.load(fixture / "io.npz")


@pytest.mark.parametrize(("name", "kind", "bare"), [("a", "wxformer", False), ("c", "crossformer", True)])
def test_forecasts_of_credits_folders_are_the_references_outputs(
    shared: Path, tmp_path: Path, name: str, kind: str, bare: bool
) -> None:
    arguments, files = publish_credit(tmp_path, shared / "fixtures/credit" / name, kind, bare=bare)
    diagnostic = ["diagnostic"] * arguments["output_only_channels"]
    said = facts(["prognostic"] * 6 + ["static", "forcing"] + diagnostic)
    data = store(tmp_path, said, files["x"][:, :, 0], latlon=True)
    trained = imported(tmp_path, said)
    [found] = forecasts(tmp_path, said, trained, data)
    np.testing.assert_allclose(found, files["y"][:, :, 0], rtol=0, atol=5e-5)
    with pytest.raises(ValueError, match=r"only knows one step of 0.5 s; .* steps of 0.5 in mode direct"):
        forecasts(tmp_path, said, trained, data, mode="direct")


def test_a_network_of_two_frames_sees_the_last_two_of_a_rollout(shared: Path, tmp_path: Path) -> None:
    fixture = shared / "fixtures/credit/d"
    arguments, files = publish_credit(tmp_path, fixture, "fuxi")
    said = facts(["prognostic"] * 6 + ["forcing"] * 2 + ["diagnostic"])
    first, second = files["x"][:, :, 0], files["x"][:, :, 1]
    third = np.random.default_rng(0).normal(size=first.shape).astype(np.float32)
    data = store(tmp_path, said, first, second, third, latlon=True)
    trained = imported(tmp_path, said)
    found = forecasts(tmp_path, said, trained, data, first=1, steps=2)
    np.testing.assert_allclose(found[0], files["y"][:, :, 0], rtol=0, atol=5e-5)
    net = load_fuxi(arguments, load_file(fixture / "weights.safetensors")).double()
    reached = np.concatenate([files["y"][:, :6, 0], third[:, 6:]], 1)
    with torch.no_grad():
        expected = net(torch.from_numpy(np.stack([second, reached], 2)).double())
    np.testing.assert_allclose(found[1], expected[:, :, 0], rtol=0, atol=5e-5)
    with pytest.raises(ValueError, match="sees 2 frames, 1 apart, so the first frame it can start from is 1"):
        forecasts(tmp_path, said, trained, data)
    values = {"model": str(trained), "output": tmp_path / "run", "data": {"path": data}, "loop": {"steps": 1}}
    with pytest.raises(
        ValueError, match=r"network of several frames, one step apart: give data.history: \[1\]"
    ):
        finetune.run(finetune.FinetuneStage.model_validate(values))


def test_a_store_in_other_units_is_refused(shared: Path, tmp_path: Path) -> None:
    arguments, files = publish_poseidon(tmp_path, shared / "fixtures/scot/a", "model.safetensors")
    said = facts(["prognostic"] * arguments["num_channels"])
    data = store(tmp_path, said, files["pixel_values"][:1])
    said["channels"][1]["units"] = "m s-1"
    with pytest.raises(ValueError, match=r"has field_1 in .*m s-1"):
        forecasts(tmp_path, said, imported(tmp_path, said), data)


# Without reference files


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A folder with a small network in Poseidon's layout: two channels in, one out."""
    sizes = {"embed_dim": 8, "depths": (1,), "num_heads": (2,), "skip_connections": (0,), "window_size": 4}
    config = ScOTConfig(preset="poseidon", **sizes)
    arguments, state = save_scot(config.build(Signature(("a", "b"), ("a",), shape=(16, 16))))
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(arguments | {"model_type": "swinv2"}))
    torch.save(state, folder / "pytorch_model.bin")
    return folder


SAID = facts(["prognostic", "static"])


def test_a_model_remembers_where_it_came_from_and_loads_as_any_other(published: Path) -> None:
    said = SAID | {"time_scales": {"one": 2.0, "two": 3.0}}
    said["channels"] = [
        {"name": "velocity_x", "mean": 0, "std": 2},
        {"name": "mask", "role": "static", "mean": 0, "std": 1},
    ]
    loaded = model_folder.load(imported(published.parent, said))
    assert loaded.signature == Signature(("velocity_x", "mask"), ("velocity_x",), shape=(16, 16))
    assert loaded.domain("two").time_scale == 3
    assert [variable.group for variable in loaded.domain("one").outputs] == ["velocity"]
    origin = loaded.history["imported"]
    assert origin["reference"] == "Poseidon"
    again = load_scot(origin["arguments"], loaded.network.state_dict())
    assert set(again.state_dict()) == set(loaded.network.state_dict())


def tuned(folder: Path, trained: Path, data: Path) -> Path:
    """Where two steps of fine-tuning end."""
    values = {
        "model": str(trained),
        "output": folder / "run",
        "data": {"path": data},
        "loop": {"steps": 2, "batch_size": 2, "micro_batch": 2},
        "tracking": {"uri": f"sqlite:///{folder}/mlflow.db"},
    }
    return finetune.run(finetune.FinetuneStage.model_validate(values))


def test_an_imported_model_is_fine_tuned_to_a_store_with_a_variable_more(published: Path) -> None:
    folder = published.parent
    more = facts(["prognostic", "static", "prognostic"])
    data = store(folder, more, np.random.default_rng(0).normal(size=(2, 3, 16, 16)))
    trained = tuned(folder, imported(folder, SAID), data)
    loaded = model_folder.load(trained)
    assert loaded.signature.inputs == ("field_0", "field_1", "field_2")
    # The scale of a variable that the model knew is the one that its weights were trained with.
    assert loaded.domain("frames").scales["field_0"].mean == SAID["channels"][0]["mean"]
    assert loaded.history["imported"]["reference"] == "Poseidon"


def test_fine_tuning_with_scales_of_other_units_is_refused(published: Path) -> None:
    folder = published.parent
    data = store(folder, SAID, np.zeros((2, 2, 16, 16)))
    said = SAID | {"channels": [{**SAID["channels"][0], "units": "K"}, SAID["channels"][1]]}
    with pytest.raises(ValueError, match=r"has field_0 in 1, the model's scale is in K: .* scales: store"):
        tuned(folder, imported(folder, said), data)


def test_facts_that_are_missing_are_asked_for(published: Path) -> None:
    result = run("import", published, published.parent / "model")
    assert result.exit_code == 2
    for part in ("2 input and 1 output channels", "--facts FILE", "time_scales", "{name: velocity_x, role"):
        assert part in result.output
    assert not (published.parent / "model").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": SAID["channels"][:1]}, "are 1 inputs (field_0), the network has 2"),
        ({"channels": [{**SAID["channels"][0], "role": "static"}, SAID["channels"][1]]}, "the network has 1"),
        ({"channels": [{"name": "field_0", "std": 1}]}, "channels.0.mean: Field required"),
        ({"time_scales": {}}, "time_scales: "),
        ({"time_scale": 3}, "time_scale: unknown key; did you mean 'time_scales'?"),
        ({"channels": [SAID["channels"][0], {**SAID["channels"][1], "name": "field_0"}]}, "same variable"),
    ],
)
def test_facts_that_do_not_fit_are_errors(published: Path, change: dict[str, Any], message: str) -> None:
    file = published / "facts.yaml"
    file.write_text(yaml.safe_dump(SAID | change))
    result = run("import", published, published.parent / "model", "--facts", file)
    assert result.exit_code in (1, 2)
    assert message in result.output
    assert not (published.parent / "model").exists()


class Code:
    """What a pickle can do: call anything."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, ("raise SystemExit('code in a file of weights was run')",)


def test_code_in_a_file_of_weights_is_not_run(published: Path) -> None:
    torch.save({"model_state_dict": Code()}, published / "pytorch_model.bin")
    result = run("import", published, published.parent / "model")
    assert result.exit_code == 1
    assert "pytorch_model.bin cannot be read as weights alone" in result.output


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x00" * 64, "cannot be read as weights alone"),
        ({"epoch": 3}, "holds no state dict"),
        (None, "there is neither model.safetensors nor pytorch_model.bin"),
    ],
)
def test_files_without_weights_are_errors(published: Path, content: Any, message: str) -> None:
    file = published / "pytorch_model.bin"
    file.unlink()
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content:
        torch.save(content, file)
    result = run("import", published, published.parent / "model")
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


def test_a_folder_that_is_none_of_the_layouts_is_told_which_there_are(tmp_path: Path) -> None:
    result = run("import", tmp_path, tmp_path / "model")
    assert result.exit_code == 1
    assert "neither config.json, as Poseidon's" in result.output
    (tmp_path / "model.yml").write_text("trainer: {}\n")
    assert "no section `model` with a `type`" in run("import", tmp_path, tmp_path / "model").output


def test_an_existing_model_is_not_overwritten(published: Path) -> None:
    trained = imported(published.parent, SAID)
    before = (trained / "model.json").read_bytes()
    result = run("import", published, trained, "--facts", published.parent / "facts.yaml")
    assert result.exit_code == 2
    assert "give another FOLDER" in result.output
    assert (trained / "model.json").read_bytes() == before
