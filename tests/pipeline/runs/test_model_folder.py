"""What a network is told about a batch: its variables by name, and scalars of which none is invented."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from pelagos.models.constraints.conserved_mean import ConservedMean
from pelagos.models.context import Signature
from pelagos.models.networks.fourier.fno import FNOConfig
from pelagos.pipeline.runs import model_folder
from pelagos.pipeline.runs.model_folder import DerivedScalar, Model, context_of, signature_of
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.layout import Layout
from pelagos.preprocessing.variables import known_variable

U, V, MASK = known_variable("velocity_x"), known_variable("velocity_y"), known_variable("mask")


def layout(**changes: object) -> Layout:
    grid = Grid("cartesian", np.arange(8) / 4, np.arange(16) / 16, ("wall", "wall"), ("periodic", "periodic"))
    values: dict[str, object] = {
        "scalars": ("viscosity",),
        "time_scale": 0.5,
        "grid": grid,
        "outputs": (U, V),
    }
    return Layout("flow", (U, V, MASK), **(values | changes))  # type: ignore[arg-type]


LEADS = torch.tensor([1.0, 3.0])


def test_channels_are_found_by_name_whatever_their_order() -> None:
    signature = Signature(("mask", "velocity_y", "density", "velocity_x"), ("velocity_y", "velocity_x"))
    context = context_of(signature, layout(), None, LEADS)
    assert context.inputs == (3, 1, 0)
    assert context.outputs == (1, 0)
    assert context.residual == (0, 1)
    assert context.periodic == (False, True)
    assert context.scalars is None


def test_scalars_come_from_the_batch_from_its_grid_or_not_at_all() -> None:
    conditions: tuple[DerivedScalar, ...] = ("duration", "spacing_x", "spacing_y")
    signature = signature_of([layout(), layout(scalars=("forcing",))], conditions)
    assert signature.scalars == ("viscosity", "forcing", *conditions)
    context = context_of(signature, layout(), torch.tensor([[1e-3], [np.nan]], dtype=torch.float64), LEADS)
    expected = torch.tensor(
        [[1e-3, np.nan, 0.5, 1 / 16, 0.25], [np.nan, np.nan, 1.5, 1 / 16, 0.25]], dtype=torch.float32
    )
    assert context.scalars is not None
    assert_close(context.scalars, expected, rtol=1e-6, atol=0, equal_nan=True)


def test_a_stores_own_scalar_goes_before_one_that_follows_from_its_grid() -> None:
    own = layout(scalars=("spacing_x",))
    context = context_of(signature_of([own], ("spacing_x",)), own, torch.tensor([[7.0], [8.0]]), LEADS)
    assert context.scalars is not None
    assert context.scalars.tolist() == [[7.0], [8.0]]


def test_a_network_is_told_where_on_the_earth_its_points_are() -> None:
    assert (
        context_of(Signature((U.key, V.key, "mask"), (U.key,)), layout(outputs=(U,)), None, LEADS).sphere
        is None
    )
    y, x = np.linspace(80, -80, 9), np.arange(0, 360, 22.5)
    globe = Grid("latlon", y, x, ("pole", "pole"), ("periodic", "periodic"), "degrees")
    signature = Signature(("mask", U.key, V.key), (U.key,))
    sphere = context_of(signature, layout(grid=globe, outputs=(U,)), None, LEADS).sphere
    assert sphere is not None
    assert (sphere.latitude, sphere.longitude) == (tuple(y), tuple(x))
    assert sphere.signs == (-1, -1, 1)  # as the call orders its channels
    assert sphere.whole
    assert sphere.on_pole == (False, False)


def test_variables_that_the_network_has_no_weights_for_are_an_error() -> None:
    with pytest.raises(ValueError, match="no input weights for mask; it knows velocity_x, velocity_y"):
        context_of(Signature(("velocity_x", "velocity_y"), ("velocity_x",)), layout(), None, LEADS)


def small_model() -> Model:
    config = FNOConfig(width=4, modes=(2, 2), num_layers=1)
    signature = Signature(("u",), ("u",), shape=(8, 8))
    return Model(config, config.build(signature), signature, {})


def test_constraints_are_kept_with_the_model_and_leave_no_trace_where_there_are_none(tmp_path: Path) -> None:
    plain, mean = small_model(), ConservedMean(variables=("u",), correction="scale")
    plain.save(tmp_path / "plain")
    replace(plain, constraints=(mean,)).save(tmp_path / "constrained")
    assert model_folder.load(tmp_path / "plain").constraints == ()
    assert "constraints" not in (tmp_path / "plain/model.json").read_text()
    assert model_folder.load(tmp_path / "constrained").constraints == (mean,)


def test_an_fno_of_before_its_mlps_had_a_width_of_their_own_is_read(tmp_path: Path) -> None:
    config, signature = (
        FNOConfig(width=4, modes=(2, 2), num_layers=1, mlp_expansion=2),
        small_model().signature,
    )
    Model(config, config.build(signature), signature, {}).save(tmp_path)
    values = json.loads((tmp_path / "model.json").read_text())
    del values["network"]["mlp_expansion"], values["checksums"]
    (tmp_path / "model.json").write_text(json.dumps(values))
    (tmp_path / "SHA256SUMS").unlink()
    assert model_folder.load(tmp_path).config == config


def test_a_model_of_before_parameters_were_told_by_waves_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signature = Signature(("u",), ("u",), ("viscosity",))
    config = FNOConfig(width=4, modes=(2, 2), num_layers=1)
    model, names = Model(config, config.build(signature), signature, {}), ("gain", "shift")
    old = {f"layers.0.scale.{name}.weight": torch.randn(4, 3) for name in names}
    with monkeypatch.context() as patch:
        whole = model.network.state_dict()
        patch.setattr(model.network, "state_dict", lambda: {**whole, **old})
        model.save(tmp_path)
    found = model_folder.load(tmp_path).network.state_dict()
    for name, weight in old.items():
        assert torch.equal(found[name][:, :3], weight)
        assert not found[name][:, 3:].any()


def test_weights_may_be_read_by_whom_the_user_lets(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        small_model().save(tmp_path / "model")
    finally:
        os.umask(before)
    files = {file.name: file.stat().st_mode & 0o777 for file in (tmp_path / "model").iterdir()}
    assert files == dict.fromkeys(("model.json", "weights.safetensors", "SHA256SUMS"), 0o640)


def test_a_save_that_fails_leaves_the_model_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(state: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    model = small_model()
    model.save(tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    monkeypatch.setattr(model_folder, "save_file", full)
    with pytest.raises(OSError, match="No space"):
        model.save(tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    assert model_folder.exists(tmp_path)
    (tmp_path / "weights.safetensors").unlink()
    assert not model_folder.exists(tmp_path)
