import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.testing import assert_close

from pelagos.models.networks.fourier.compat import ReferenceSFNO, load_sfno, save_sfno

TINY = {"modes_x": 2, "modes_y": 2, "modes_t": 2, "width": 4}
HIDDEN = {
    "act_after_norm": "lifting_operator.norm",
    "act_reduction": "reduction",
    "act_out_conv": "output_operator.conv",
}


def fixture(shared: Path) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    folder = shared / "fixtures" / "spectral_refiner"
    arguments = json.loads((folder / "sfno_tiny_config.json").read_text())["config"]
    tensors = np.load(folder / "sfno_tiny_io.npz")
    state = load_file(folder / "sfno_tiny_weights.safetensors")
    return arguments, state, {key: torch.from_numpy(value) for key, value in tensors.items()}


@pytest.mark.parametrize(
    ("x", "steps", "y"),
    [
        ("x_16_t10", None, "y_16_t10_out10"),
        ("x_16_t10", 25, "y_16_t10_out25"),
        ("x_24_t9", 6, "y_24_t9_out6"),
    ],
)
def test_outputs_are_the_references(shared: Path, x: str, steps: int | None, y: str) -> None:
    arguments, state, tensors = fixture(shared)
    net = load_sfno(arguments, state).double()
    assert not net.training
    with torch.no_grad():
        assert_close(net(tensors[x], steps), tensors[y], rtol=0, atol=1e-12)


def test_hidden_states_are_the_references(shared: Path) -> None:
    arguments, state, tensors = fixture(shared)
    net = load_sfno(arguments, state).double()
    found: dict[str, Tensor] = {}
    for name, path in HIDDEN.items():
        part = net.network.get_submodule(path)
        part.register_forward_hook(lambda module, inputs, output, name=name: found.update({name: output}))
    with torch.no_grad():
        net(tensors["x_16_t10"])
    # The reference's tensor has dropped the frames that stand for the padding.
    found["act_out_conv"] = found["act_out_conv"][..., -11:]
    assert_close(found, {name: tensors[name] for name in HIDDEN}, rtol=0, atol=1e-12)


def test_saving_gives_arguments_and_state_back(shared: Path) -> None:
    arguments, state, _ = fixture(shared)
    saved_arguments, saved_state = save_sfno(load_sfno(arguments, state))
    assert saved_arguments == arguments
    assert_close(saved_state, state, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"out_dim": 2}, "out_dim = 2"),
        ({"spatial_random_feats": True}, "spatial_random_feats = True"),
        ({"pe_trainable": True}, "pe_trainable = True"),
        ({"fft_norm": "ortho"}, "fft_norm = 'ortho'"),
    ],
)
def test_arguments_that_cannot_be_served_are_errors(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReferenceSFNO(TINY | changes)


def test_tensors_that_do_not_fit_are_errors_that_name_them() -> None:
    arguments, state = save_sfno(ReferenceSFNO(TINY))
    state["reduction.scale"] = state.pop("reduction.bias")
    with pytest.raises(ValueError, match=r"reduction.bias is missing; reduction.scale is unknown"):
        load_sfno(arguments, state)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 8, 5), r"grid of 3x8 .* at least 4x4"),
        ((1, 8, 8, 101), "101 input frames, but the reference counts at most 100"),
    ],
)
def test_fields_that_cannot_be_served_are_errors(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReferenceSFNO(TINY)(torch.zeros(shape))
