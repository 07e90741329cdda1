"""A model is loaded from wherever it is kept, and makes the same forecasts of datasets, arrays and through MLflow."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import pelagos
from pelagos.models.context import Signature
from pelagos.models.networks.fourier.fno import FNOConfig
from pelagos.models.networks.network import ExternalConfig
from pelagos.pipeline.forecasting.loaded_model import as_dataset
from pelagos.pipeline.runs import published_folder
from pelagos.pipeline.runs.model_folder import Domain, Model, VariableScale
from pelagos.pipeline.runs.trained_grid import TrainedAxis, TrainedGrid
from pelagos.pipeline.stages.register import RegisterStage, run
from pelagos.pipeline.tracking import model_registry
from pelagos.pipeline.tracking.tracker import TrackingConfig
from pelagos.preprocessing.errors import DamagedFileError, DataError, MissingFileError, UntrustedCodeError
from pelagos.preprocessing.safety.trust import trusting
from pelagos.preprocessing.variables import Variable

OWN_NETWORK = """
from torch import nn

class Half(nn.Module):
    def __init__(self, signature):
        super().__init__()

    def forward(self, fields_BCHW, lead_B, told):
        return fields_BCHW[:, :1] / 2
"""
START = np.random.default_rng(0).normal(size=(3, 2, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that forecasts u from u, a mask and a viscosity."""
    u, mask = Variable(name="u"), Variable(name="mask", role="static")
    axis = TrainedAxis(first=0.0, last=0.875, points=8, periodic=True)
    domain = Domain(
        inputs=(u, mask),
        outputs=(u,),
        scales={"u": VariableScale(mean=0.5, std=2.0), "mask": VariableScale(mean=0.0, std=1.0)},
        scalars=("viscosity",),
        time_scale=0.1,
        max_lead=0.1,
        min_lead=0.1,
        horizon=0.3,
        time_units="s",
        grid=TrainedGrid(kind="cartesian", units="m", y=axis, x=axis),
    )
    config, signature = (
        FNOConfig(width=4, modes=(2, 2), num_layers=1),
        Signature(("u", "mask"), ("u",), ("viscosity",), shape=(8, 8)),
    )
    torch.manual_seed(0)
    network = config.build(signature)
    place = tmp_path_factory.mktemp("loaded") / "model"
    Model(config, network, signature, {"flow": domain}, {"pretrained": {}}).save(place)
    return place


@pytest.fixture(scope="module")
def tracking(folder: Path) -> TrackingConfig:
    """A registry that has the model as `flow`."""
    config = TrackingConfig(uri=f"sqlite:///{folder.parent}/mlflow.db")
    values = {"model": folder, "name": "flow", "tracking": config, "licence": "CC-BY-4.0"}
    run(RegisterStage.model_validate(values))
    return config


def dataset(model: pelagos.LoadedModel) -> xr.Dataset:
    return as_dataset(START, model.model.domain("flow"), [0.1])


def test_forecasts_of_arrays_and_datasets_are_the_same_from_any_place(
    folder: Path, tracking: TrackingConfig, tmp_path: Path
) -> None:
    published_folder.publish(folder, tmp_path / "published", "# Flow\n")
    models = [
        pelagos.load("models:/flow@champion", tracking),
        pelagos.load(folder),
        pelagos.load(tmp_path / "published"),
    ]
    [first, *others] = [model.forecast_array(START, 3, [0.1]) for model in models]
    assert first.shape == (3, 3, 1, 8, 8)
    assert all(np.array_equal(other, first) for other in others)
    made = models[0].forecast(dataset(models[0]), steps=3)
    assert np.array_equal(made["u"].isel(start=0).values[:, :, None], first)
    np.testing.assert_array_equal(made["lead_time"] / np.timedelta64(1, "ms"), [100, 200, 300])
    assert models[0].datasets == ("flow",)


def test_what_a_model_cannot_take_is_refused(folder: Path) -> None:
    model = pelagos.load(folder)
    with pytest.raises(DataError, match=r"the model takes \(samples, 2, 8, 8\): u, mask"):
        model.forecast_array(START[:, :1], 1, [0.1])
    with pytest.raises(DataError, match=r"0 parameter\(s\) given; the model needs 1: viscosity"):
        model.forecast_array(START, 1)
    with pytest.raises(MissingFileError, match="no model folder nowhere"):
        pelagos.load("nowhere")


@pytest.fixture(scope="module")
def served(tracking: TrackingConfig) -> Iterator[Any]:
    """The version as MLflow loads it."""
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(tracking.uri)
    yield mlflow.pyfunc.load_model("models:/flow@champion")
    mlflow.set_tracking_uri(before)


def test_mlflow_serves_the_same_bits(folder: Path, tracking: TrackingConfig, served: Any) -> None:
    model = pelagos.load(folder)
    expected = model.forecast_array(START, 3, [0.1])
    params = {"steps": 3, "scalars": [0.1]}
    assert np.array_equal(served.predict(START, params=params), expected)
    example = json.loads((version_folder(tracking) / "serving_input_example.json").read_text())
    assert served.predict(example["inputs"], params=example["params"]).shape == (1, 1, 1, 8, 8)
    # What a server makes of JSON, there and back.
    lists = json.loads(json.dumps(START.tolist()))
    answer = json.loads(json.dumps(served.predict(lists, params=params).tolist()))
    assert np.array_equal(np.array(answer, np.float32), expected)
    made = served.predict(dataset(model), params={"steps": 3})
    assert np.array_equal(made["u"].isel(start=0).values[:, :, None], expected)


def test_mlflow_serves_a_network_of_ones_own(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    name = "network_of_this_test"
    (tmp_path / f"{name}.py").write_text(OWN_NETWORK)
    path = f"{name}:Half"
    monkeypatch.syspath_prepend(str(tmp_path))
    known = pelagos.load(folder).model
    config = ExternalConfig(path=path)
    replace(known, config=config, network=config.build(known.signature)).save(tmp_path / "model")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    stage = RegisterStage.model_validate(
        {"model": tmp_path / "model", "name": "own", "tracking": {"uri": uri}}
    )
    with trusting([path]):
        run(stage)
    # As in another place, where nobody has the module and nobody says whom to trust.
    (tmp_path / f"{name}.py").unlink()
    monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one != str(tmp_path)])
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        model = mlflow.pyfunc.load_model("models:/own@champion")
    finally:
        mlflow.set_tracking_uri(before)
    made = model.predict(START, params={"scalars": [0.1]})
    np.testing.assert_allclose(made[:, 0, 0], (START[:, 0] - 0.5) / 2 + 0.5, rtol=1e-5)
    with pytest.raises(UntrustedCodeError):
        pelagos.load("models:/own@champion", uri)


def version_folder(tracking: TrackingConfig) -> Path:
    return model_registry.fetch("models:/flow/1", tracking)


def test_a_version_says_what_it_takes_needs_and_is(tracking: TrackingConfig) -> None:
    from mlflow.models import Model as MlflowModel

    folder = version_folder(tracking)
    described = MlflowModel.load(folder)
    assert described.signature.inputs.inputs[0].shape == (-1, 2, 8, 8)
    assert described.signature.outputs.inputs[0].shape == (-1, -1, 1, 8, 8)
    assert described.load_input_example(str(folder)).shape == (1, 2, 8, 8)
    requirements = (folder / "requirements.txt").read_text()
    assert f"torch=={torch.__version__.partition('+')[0]}" in requirements
    assert not [name for name in ("deepspeed", "dask", "numba") if name in requirements]
    assert not [file for file in folder.rglob("*") if file.suffix in (".pkl", ".pickle", ".pt")]
    card = (folder / "README.md").read_text()
    for words in ("license: cc-by-4.0", "## Limits", "forecasts that reach 0.3 s", "from u, mask to u"):
        assert words in card
    tags = model_registry.version("models:/flow@champion", tracking).tags
    assert tags["pelagos.stage"] == "pretrained"
    assert tags["pelagos.licence"] == "CC-BY-4.0"


def test_sixty_changes_of_a_byte_of_a_served_version_are_refused(tracking: TrackingConfig) -> None:
    folder, rng = version_folder(tracking), np.random.default_rng(0)
    files = sorted(file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    files = [file for file in files if file.name != "registered_model_meta"]  # MLflow's own, of this download
    for place in rng.integers(len(files), size=60):
        file = files[place]
        content = file.read_bytes()
        if not content:
            continue
        changed = bytearray(content)
        changed[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        file.write_bytes(changed)
        try:
            with pytest.raises(DamagedFileError):
                pelagos.load("models:/flow@champion", tracking)
        finally:
            file.write_bytes(content)
