"""Weights carried over to other variables and scalars by name."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.testing import assert_close

from pelagos.models.adapt import adapt, copied_kinds, with_waves
from pelagos.models.context import Context, Signature
from pelagos.models.layers.named_axis import named_axis
from pelagos.models.networks.credit.fuxi import FuXiConfig
from pelagos.models.networks.fourier.fno import FNOConfig
from pelagos.models.networks.network import NetworkConfig
from pelagos.models.networks.scot.compat import load_scot
from pelagos.models.networks.scot.scot import ScOT, ScOTConfig
from pelagos.models.networks.unet import UNetConfig
from pelagos.preprocessing.errors import DataError

CONFIG = ScOTConfig(
    embed_dim=8, depths=(2, 1), num_heads=(2, 4), skip_connections=(1, 0), window_size=4, patch_size=2
)
OLD = Signature(("density", "velocity_x", "mask"), ("density", "velocity_x"), scalars=("viscosity",))
MORE = Signature(
    ("pressure", "mask", "velocity_x", "tracer", "density"),
    ("velocity_x", "pressure", "density"),
    scalars=("forcing", "viscosity"),
)


def network(signature: Signature, seed: int, config: ScOTConfig = CONFIG) -> ScOT:
    torch.manual_seed(seed)
    return config.build(signature).double().eval()


def predict(net: ScOT, names: tuple[str, ...], scalars: dict[str, float]) -> Tensor:
    """Predictions of density and x-velocity from fields of the given names, each drawn by its name alone."""
    fields = [
        torch.randn(2, 8, 12, generator=torch.Generator().manual_seed(len(name)), dtype=torch.float64)
        for name in names
    ]
    signature = net.signature
    values = [scalars.get(name, torch.nan) for name in signature.scalars]
    context = Context(
        inputs=tuple(signature.inputs.index(name) for name in names),
        outputs=tuple(signature.outputs.index(name) for name in ("density", "velocity_x")),
        periodic=(True, False),
        scalars=torch.tensor([values, values], dtype=torch.float64),
    )
    with torch.no_grad():
        times_B = torch.tensor([0.3, 0.6], dtype=torch.float64)
        y_BCHW: Tensor = net(torch.stack(fields, 1), times_B, context)
    return y_BCHW


def test_added_variables_and_scalars_leave_the_old_ones_predictions_alone() -> None:
    old, new = network(OLD, 0), network(MORE, 1)
    state, _ = adapt(old.state_dict(), OLD, new)
    new.load_state_dict(state)
    known = {"viscosity": 0.01}
    assert_close(predict(new, OLD.inputs, known), predict(old, OLD.inputs, known), rtol=0, atol=1e-12)


def test_there_and_back_again_gives_the_same_weights() -> None:
    old = network(OLD, 0)
    there, _ = adapt(old.state_dict(), OLD, network(MORE, 1))
    back, _ = adapt(there, MORE, network(OLD, 2))
    assert_close(back, dict(old.state_dict()), rtol=0, atol=0)


def test_new_slices_are_the_new_networks_own_and_finite() -> None:
    new = network(MORE, 1)
    own = {name: value.clone() for name, value in new.state_dict().items()}
    state, _ = adapt(network(OLD, 0).state_dict(), OLD, new)
    name = "embeddings.patch_embeddings.projection.weight"
    assert_close(state[name][:, [0, 3]], own[name][:, [0, 3]], rtol=0, atol=0)
    assert (state[name][:, [1, 2, 4]] - own[name][:, [1, 2, 4]]).abs().min() > 0
    assert all(torch.isfinite(value).all() for value in state.values())


def test_report_names_what_became_of_each_variable_and_scalar() -> None:
    fewer = Signature(("velocity_x", "tracer"), ("velocity_x",))
    _, report = adapt(network(OLD, 0).state_dict(), OLD, network(fewer, 1))
    assert report.copied == ("input velocity_x", "output velocity_x", "condition lead_time")
    assert report.fresh == ("input tracer",)
    assert set(report.dropped) == {
        "input density",
        "input mask",
        "output density",
        "condition value:viscosity",
        "condition known:viscosity",
        "condition sine:viscosity",
        "condition cosine:viscosity",
    }
    assert "patch_recovery.mixup.weight" in report.weights
    assert str(report).startswith("copied: input velocity_x, output velocity_x, condition lead_time; fresh:")


def test_networks_that_differ_otherwise_are_errors() -> None:
    old = network(OLD, 0)
    wider = network(MORE, 1, CONFIG.model_copy(update={"embed_dim": 16}))
    with pytest.raises(DataError, match=r"has shape \(8, 3, 2, 2\), but \(16, 3, 2, 2\)"):
        adapt(old.state_dict(), OLD, wider)
    deeper = network(MORE, 1, CONFIG.model_copy(update={"depths": (2, 2)}))
    with pytest.raises(DataError, match=r"weights missing \['decoder.layers.0.blocks.1"):
        adapt(old.state_dict(), OLD, deeper)
    with pytest.raises(DataError, match=r"has shape \(8, 3, 2, 2\), but \(8, 5, 2, 2\)"):
        adapt(old.state_dict(), MORE, network(OLD, 1))


@pytest.mark.parametrize("name", "abcd")
def test_published_weights_in_a_network_of_other_channels_learn_from_the_first_step(
    shared: Path, name: str
) -> None:
    folder = shared / "fixtures/scot" / name
    arguments = json.loads((folder / "config.json").read_text())["scot_kwargs"]
    published = load_scot(arguments, load_file(folder / "weights.safetensors"))
    old = published.signature
    new = replace(old, inputs=("fresh", *old.inputs[:1], "other"), outputs=("fresh", *old.outputs[:1]))
    state, _ = adapt(published.state_dict(), old, published.config.build(new))
    side = published.image_size or 0
    generator = torch.Generator().manual_seed(0)
    x_BCHW, time_B = torch.randn(1, 3, side, side, generator=generator), torch.tensor([0.7])
    for bf16 in (False, True):
        net = published.config.build(new).train()
        net.load_state_dict(state)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = (net(x_BCHW, time_B) - 1).float().abs().mean()
        loss.backward()
        assert 0 < float(loss.detach()) < 10
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
        torch.optim.AdamW(net.parameters(), lr=1e-4).step()
        assert all(torch.isfinite(p).all() for p in net.parameters())


@pytest.mark.parametrize("kind", ["scot", "unet", "fno"])
def test_a_network_that_learns_to_see_earlier_frames_starts_as_it_was(kind: str) -> None:
    configs: dict[str, ScOTConfig | UNetConfig | FNOConfig] = {
        "scot": CONFIG,
        "unet": UNetConfig(dims=(4, 8), depth=1, kernel=3),
        "fno": FNOConfig(width=4, modes=(2, 2), num_layers=1),
    }
    config = configs[kind]
    old = Signature(("density", "heating"), ("density",))
    earlier = ("density[-1]", "heating[-1]", "heating[valid]")
    new = Signature((*old.inputs, *earlier), old.outputs)
    torch.manual_seed(0)
    before, after = (config.build(one).double().eval() for one in (old, new))
    state, adaptation = adapt(before.state_dict(), old, after)
    after.load_state_dict(state)
    x_BCHW = torch.randn(2, 5, 8, 12, dtype=torch.float64)
    lead_B = torch.tensor([0.5, 1.0], dtype=torch.float64)
    with torch.no_grad():
        assert_close(after(x_BCHW, lead_B), before(x_BCHW[:, :2], lead_B), rtol=0, atol=1e-12)
    assert adaptation.fresh == tuple(f"input {name}" for name in earlier)
    after(x_BCHW, lead_B).square().sum().backward()
    names = [
        name for name, axes in after.named_axes().items() if copied_kinds({name: axes}, set()) == {"input"}
    ]
    gradients = {name: weight.grad for name, weight in after.named_parameters() if weight.grad is not None}
    assert all((gradients[name][:, 2:5] != 0).any() for name in names)  # and learns to


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        FNOConfig(width=4, modes=(2, 2), num_layers=1),
        UNetConfig(dims=(4, 8), depth=1),
        FuXiConfig(dim=8, depth=1, num_heads=2, window=2, groups=2),
    ],
    ids=lambda config: config.kind,
)
def test_weights_of_before_parameters_had_waves_say_what_they_said(config: NetworkConfig) -> None:
    signature = replace(OLD, shape=(8, 8))
    net: Any = config.build(signature)
    state, shorter = dict(net.state_dict()), dict[str, Tensor]()
    for name, axes in net.named_axes().items():
        for dim, axis in enumerate(axes):
            names = [] if axis is None else [one for one, _, _ in named_axis(axis).names(signature)]
            waves = [place for place, one in enumerate(names) if "sine:" in one]
            if waves:
                state[name] = state[name].index_fill(dim, torch.tensor(waves), 0)
                kept = torch.tensor([place for place in range(len(names)) if place not in waves])
                shorter[name] = state[name].index_select(dim, kept)
    assert shorter
    found = with_waves({**state, **shorter}, net)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_weights_that_lack_anything_else_are_left_for_torch_to_refuse() -> None:
    net = UNetConfig(dims=(4, 8), depth=1).build(OLD)
    state = net.state_dict()
    name = next(name for name, axes in net.named_axes().items() if "condition" in axes)
    state[name] = state[name][:, :2]
    assert torch.equal(with_waves(state, net)[name], state[name])
