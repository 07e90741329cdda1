import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.testing import assert_close

from pelagos.models.networks.credit.compat import (
    CreditNetwork,
    build_crossformer,
    build_fuxi,
    crossformer_config,
    load_crossformer,
    load_fuxi,
    save_crossformer,
    save_fuxi,
)

LOAD = {"a": load_crossformer, "c": load_crossformer, "d": load_fuxi}
SAVE = {"a": save_crossformer, "c": save_crossformer, "d": save_fuxi}
TAPS = {
    "tap_layers_3_0": "layers.3.0",
    "tap_layers_3_1": "layers.3.1",
    "tap_up_block1": "up_block1",
    "tap_u_transformer": "u_transformer",
}
TINY: dict[str, Any] = {
    "image_height": 16,
    "image_width": 32,
    "frames": 1,
    "channels": 1,
    "levels": 2,
    "surface_channels": 1,
    "input_only_channels": 0,
    "dim": [4, 8, 16, 32],
    "depth": 1,
    "dim_head": 4,
    "global_window_size": 1,
    "local_window_size": 1,
    "cross_embed_kernel_sizes": [[2, 4], [2], [2], [2]],
    "cross_embed_strides": 2,
    "interp": False,
}
PUBLISHED: dict[str, Any] = {
    "image_height": 640,
    "image_width": 1280,
    "frames": 1,
    "channels": 4,
    "levels": 16,
    "surface_channels": 7,
    "input_only_channels": 3,
    "dim": [128, 256, 512, 1024],
    "depth": [2, 2, 8, 2],
    "global_window_size": [10, 5, 2, 1],
    "local_window_size": 10,
    "cross_embed_strides": [2, 2, 2, 2],
    "interp": False,
}
QUARTER_DEGREE = {"levels": 13, "surface_channels": 4, "input_only_channels": 4, "output_only_channels": 8}
ONE_DEGREE = QUARTER_DEGREE | {"levels": 18, "dim": [32, 64, 128, 256]}
WIDE = {"dim": [256, 512, 1024, 2048]}


def fixture(shared: Path, name: str) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    folder = shared / "fixtures" / "credit" / name
    arguments = json.loads((folder / "config.json").read_text())["model"]
    tensors = {key: torch.from_numpy(value) for key, value in np.load(folder / "io.npz").items()}
    return arguments, load_file(folder / "weights.safetensors"), tensors


@pytest.mark.parametrize("name", LOAD)
def test_outputs_and_hidden_states_are_the_references(shared: Path, name: str) -> None:
    arguments, state, tensors = fixture(shared, name)
    net = LOAD[name](arguments, state).double()
    assert not net.training
    found = {}
    for tap, path in TAPS.items():
        if tap in tensors:
            part = net.network.body.get_submodule(path)
            part.register_forward_hook(lambda module, inputs, output, tap=tap: found.update({tap: output}))
    with torch.no_grad():
        found["y"] = net(tensors["x"].double())
    assert_close(found, {k: v for k, v in tensors.items() if k != "x"}, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", LOAD)
def test_saving_gives_arguments_and_state_back(shared: Path, name: str) -> None:
    arguments, state, _ = fixture(shared, name)
    saved_arguments, saved_state = SAVE[name](LOAD[name](arguments, state))
    assert saved_arguments == arguments
    assert_close(saved_state, {k: v.float() for k, v in state.items()}, rtol=0, atol=0)


def test_names_of_either_generation_load(shared: Path) -> None:
    """Before August 2026 the pixel-shuffle class had the published class's names of cross embeddings."""
    arguments, state, tensors = fixture(shared, "a")
    older = {re.sub(r"(convs\.\d)\.1\.", r"\1.", key): value for key, value in state.items()}
    assert len(older.keys() - state.keys()) > 20
    net = load_crossformer(arguments, older)
    assert save_crossformer(net)[1].keys() == older.keys()
    with torch.no_grad():
        assert_close(net.double()(tensors["x"].double()), tensors["y"], rtol=0, atol=1e-12)


def test_tuples_and_lists_and_one_number_for_all_stages_are_the_same_network(shared: Path) -> None:
    arguments, state, tensors = fixture(shared, "c")
    outputs = []
    for window in (3, [3, 3, 3, 3], (3, 3, 3, 3)):
        changed = arguments | {"local_window_size": window, "dim": tuple(arguments["dim"])}
        outputs.append(load_crossformer(changed, state)(tensors["x"]))
    assert_close(outputs, outputs[:1] * 3, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("file", "kind"),
    [("keys_wxformer_6h_npj_crossformer", "crossformer"), ("keys_wxformer_base_0p28deg", "wxformer_base")],
)
def test_published_weights_have_the_names_and_shapes_of_the_listing(
    shared: Path, file: str, kind: str
) -> None:
    lines = (shared / "fixtures" / "credit" / f"{file}.txt").read_text().splitlines()
    pairs = (line.split(" ", 1) for line in lines if not line.startswith("#"))
    listing = {name: tuple(json.loads(shape)) for name, shape in pairs}
    with torch.device("meta"):
        _, state = save_crossformer(build_crossformer(PUBLISHED | {"type": kind}))
    assert {name: tuple(value.shape) for name, value in state.items()} == listing


@pytest.mark.parametrize(
    ("kind", "changes", "millions"),
    [
        ("crossformer", {}, 124.398819),
        ("wxformer", {}, 155.171128),
        ("crossformer", QUARTER_DEGREE, 124.0),
        ("wxformer", QUARTER_DEGREE, 154.8),
        ("wxformer", ONE_DEGREE, 10.3),
        ("crossformer", WIDE, 493),
        ("wxformer", WIDE, 615),
    ],
)
def test_wxformers_have_as_many_parameters_as_the_references(
    kind: str, changes: dict[str, Any], millions: float
) -> None:
    with torch.device("meta"):
        net = build_crossformer(PUBLISHED | changes | {"type": kind})
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(
        millions, abs=0.05 if changes and millions < 200 else 0.5 if changes else 0
    )


def test_fuxi_has_as_many_parameters_as_the_reference() -> None:
    shape = {key: value for key, value in PUBLISHED.items() if not isinstance(value, list)}
    del shape["local_window_size"]
    size = {"frames": 2, "patch_height": 4, "patch_width": 4, "dim": 1024, "depth": 16}
    with torch.device("meta"):
        net = build_fuxi(shape | size)
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(260.8, abs=0.05)


def tiny(**changes: Any) -> CreditNetwork:
    torch.manual_seed(0)
    return build_crossformer(TINY | {"type": "wxformer"} | changes).double().eval()


def test_frames_are_folded_with_the_frame_fastest() -> None:
    net = tiny(frames=2)
    x_BCTHW = torch.randn(1, 3, 2, 16, 32, dtype=torch.float64)
    folded = torch.stack([x_BCTHW[:, c, t] for c in range(3) for t in range(2)], 1)
    y_BCHW = net.network.body(folded)
    with torch.no_grad():
        assert_close(net(x_BCTHW), y_BCHW[:, :, None], rtol=0, atol=0)
    assert net.cube_embedding is not None
    assert net.cube_embedding.get_parameter("proj.weight").shape == (4, 6, 2, 1, 1)


def test_output_frames_are_the_faster_axis_of_the_decoders_channels() -> None:
    net = tiny(output_frames=2)
    x_BCTHW = torch.randn(1, 3, 1, 16, 32, dtype=torch.float64)
    y_BCTHW = net(x_BCTHW)
    assert y_BCTHW.shape == (1, 3, 2, 16, 32)
    assert_close(y_BCTHW.flatten(1, 2), net.network.body(x_BCTHW[:, :, 0]))


def test_patches_are_embedded_before_the_first_stage_and_interpolated_back() -> None:
    net = tiny(patch_height=2, patch_width=2, interp=True, image_height=32, image_width=64)
    assert net.cube_embedding is None
    _, state = save_crossformer(net)
    assert state["cube_embedding.proj.weight"].shape == (4, 3, 1, 2, 2)
    assert state["layers.0.0.convs.0.1.weight_orig"].shape[1] == 4
    x_BCTHW = torch.randn(1, 3, 1, 32, 64, dtype=torch.float64)
    coarse = net.network.body(x_BCTHW[:, :, 0])
    assert coarse.shape == (1, 3, 16, 32)
    expected = torch.nn.functional.interpolate(coarse, (32, 64), mode="bilinear")
    assert_close(net(x_BCTHW)[:, :, 0], expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pad_lat": 80}, r"pad_lat .*padding_conf: \{activate, mode, pad_lat, pad_lon\}"),
        ({"windows": 3}, "windows = 3"),
        ({"attention_type": "scse_standard"}, "attention_type = 'scse_standard'"),
        ({"upsample_v_conv": True}, "upsample_v_conv = True"),
        ({"post_conf": {"activate": True}}, "post_conf.activate = True"),
        ({"padding_conf": {"activate": True, "mode": "zeros"}}, "padding_conf.mode = 'zeros'"),
        ({"dim": [4, 8, 16, 24]}, r"dim is \(4, 8, 16, 24\)"),
        ({"patch_height": 2, "patch_width": 2, "frames": 2}, r"patches of \(2, 2\) with 2 frames"),
        ({"type": "camulator"}, "type = 'camulator'"),
        ({"type": ""}, "no type"),
    ],
)
def test_arguments_that_cannot_be_served_are_errors(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_crossformer(TINY | {"type": "wxformer"} | changes)


def test_fuxi_needs_all_frames_in_a_patch() -> None:
    with pytest.raises(ValueError, match="frame_patch_size is 1, but a patch must hold all 2 frames"):
        build_fuxi({"frame_patch_size": 1})


def test_post_processing_that_is_switched_off_may_be_described() -> None:
    crossformer_config(TINY | {"type": "wxformer", "post_conf": {"activate": False, "skebs": {"lmax": 3}}})


def test_padding_may_be_one_number_a_axis() -> None:
    padding = {"activate": True, "mode": "earth", "pad_lat": 8, "pad_lon": [0, 16]}
    net = tiny(padding_conf=padding)
    assert net.network.padding.widths(16, 32) == ((8, 8), (0, 16))


def test_tensors_that_do_not_fit_are_errors_that_name_them() -> None:
    arguments, state = save_crossformer(tiny())
    state["layers.9.weight"] = state.pop("up_block1.conv.bias")
    state["up_block2.conv.bias"] = torch.zeros(3)
    with pytest.raises(ValueError, match=r"up_block1.conv.bias is missing") as caught:
        load_crossformer(arguments, state)
    assert "layers.9.weight is unknown" in str(caught.value)
    assert "up_block2.conv.bias has shape (3,) instead of (32,)" in str(caught.value)


def test_weights_that_are_not_finite_are_errors() -> None:
    arguments, state = save_crossformer(tiny())
    state["up_block1.conv.bias"][0] = torch.nan
    with pytest.raises(ValueError, match=r"up_block1.conv.bias has values that are not finite"):
        load_crossformer(arguments, state)


@pytest.mark.parametrize(
    ("given", "loaded"), [(torch.float16, torch.float32), (torch.float64, torch.float64)]
)
def test_weights_keep_their_precision_from_float32_on(given: torch.dtype, loaded: torch.dtype) -> None:
    arguments, state = save_crossformer(tiny())
    net = load_crossformer(arguments, {key: value.to(given) for key, value in state.items()})
    assert {value.dtype for value in net.state_dict().values()} == {loaded}


def test_loading_does_not_touch_the_given_tensors() -> None:
    arguments, state = save_crossformer(tiny())
    net = load_crossformer(arguments, state)
    with torch.no_grad():
        net.network.body.get_parameter("up_block1.conv.bias").add_(1)
    assert not torch.equal(
        net.network.body.get_parameter("up_block1.conv.bias"), state["up_block1.conv.bias"]
    )


def test_fields_of_another_shape_are_errors_that_name_both() -> None:
    with pytest.raises(ValueError, match=r"\(3, 1, 16, 30\).*\(3, 1, 16, 32\)"):
        tiny()(torch.zeros(1, 3, 1, 16, 30))
