"""Weights of Poseidon's scOT come in and go out unchanged, and what contradicts its arguments is an error."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.testing import assert_close

from pelagos.models.context import Signature
from pelagos.models.networks.scot.compat import load_scot, save_scot, scot_arguments
from pelagos.models.networks.scot.scot import ScOTConfig
from pelagos.preprocessing.errors import ConfigError, DataError

SMALL: dict[str, Any] = {
    "embed_dim": 8,
    "depths": (2, 1),
    "num_heads": (2, 4),
    "skip_connections": (1, 0),
    "window_size": 4,
    "patch_size": 2,
}


@pytest.mark.parametrize("name", "abcd")
def test_arguments_and_weights_come_back_as_they_went_in(shared: Path, name: str) -> None:
    folder = shared / "fixtures/scot" / name
    arguments = json.loads((folder / "config.json").read_text())["scot_kwargs"]
    state = load_file(folder / "weights.safetensors")
    saved_arguments, saved_state = save_scot(load_scot(arguments, state))
    assert saved_arguments == arguments
    assert_close(saved_state, state, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("size", "embed_dim", "depth", "count"),
    [("T", 48, 4, 20_774_444), ("B", 96, 8, 157_729_988), ("L", 192, 8, 628_575_524)],
)
def test_official_sizes_have_the_official_weights(
    shared: Path, size: str, embed_dim: int, depth: int, count: int
) -> None:
    config = ScOTConfig(preset="poseidon", embed_dim=embed_dim, depths=(depth,) * 4, image_size=128)
    with torch.device("meta"):
        net = config.build(Signature(tuple("abcd"), tuple("abcd")))
    listing = json.loads((shared / f"fixtures/scot/keys_Poseidon-{size}.json").read_text())
    assert {name: list(value.shape) for name, value in net.state_dict().items()} == listing
    assert sum(p.numel() for p in net.parameters()) == count


ARGUMENTS = {
    "image_size": 16,
    "patch_size": 2,
    "num_channels": 2,
    "num_out_channels": 1,
    "embed_dim": 8,
    "depths": [2, 1],
    "num_heads": [2, 4],
    "skip_connections": [1, 0],
    "window_size": 4,
    "use_conditioning": True,
}


def fresh_state() -> dict[str, Tensor]:
    config = ScOTConfig(preset="poseidon", **SMALL)
    return config.build(Signature(("a", "b"), ("a",), shape=(16, 16))).state_dict()


def test_a_network_made_here_can_be_saved_for_the_reference() -> None:
    config = ScOTConfig(preset="poseidon", **SMALL)
    net = config.build(Signature(("a", "b"), ("a",), shape=(16, 16))).eval()
    other = load_scot(*save_scot(net))
    x_BCHW, time_B = torch.randn(2, 2, 16, 16), torch.rand(2)
    with torch.no_grad():
        assert_close(other(x_BCHW, time_B), net(x_BCHW, time_B), rtol=0, atol=0)


def test_published_configurations_hold_the_arguments_among_other_entries() -> None:
    published = {**ARGUMENTS, "model_type": "swinv2", "id2label": {"0": "LABEL_0"}}
    assert scot_arguments(published) == ARGUMENTS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_act": "relu"}, "hidden_act.*'gelu'"),
        ({"use_mask_token": True}, "use_mask_token"),
        ({"depths": [2]}, "differ in length.*'depths': 1"),
        ({"num_heads": [3, 4]}, "8 channels do not split into 3 heads"),
        ({"image_size": 15}, "image_size 15 is not a multiple of patch_size 2"),
    ],
)
def test_arguments_that_cannot_be_followed_are_errors(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        load_scot({**ARGUMENTS, **change}, fresh_state())


def test_weights_that_contradict_the_arguments_are_errors() -> None:
    state = fresh_state()
    name = "patch_recovery.mixup.weight"
    with pytest.raises(DataError, match=rf"weights of Poseidon's scOT .*: {name} is missing$"):
        load_scot(ARGUMENTS, {key: value for key, value in state.items() if key != name})
    with pytest.raises(DataError, match=rf"{name} has shape \(1, 1, 3, 3\) instead of \(1, 1, 5, 5\)"):
        load_scot(ARGUMENTS, {**state, name: torch.zeros(1, 1, 3, 3)})
    with pytest.raises(DataError, match=f"{name} has values that are not finite"):
        load_scot(ARGUMENTS, {**state, name: torch.full((1, 1, 5, 5), torch.nan)})


def test_networks_that_the_reference_does_not_have_cannot_be_saved_for_it() -> None:
    with pytest.raises(ConfigError, match="Poseidon's code has no network with"):
        save_scot(ScOTConfig(**SMALL).build(Signature(("a",), ("a",))))
