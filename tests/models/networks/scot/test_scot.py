"""ScOT: parity with the reference's fixtures, and what Pelagos's preset adds.

Fixtures a-d were made by the reference in float64; it computes its table of offsets in float32 even then, and
`output_table64` alone with one in float64. So that is met within 1e-10, all else within what a table in float32 costs.
"""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor
from torch.testing import assert_close

from pelagos.models.context import Context, Signature, Sphere
from pelagos.models.layers.conditioning import project_for_modules, shared_conditions
from pelagos.models.networks.scot import scot
from pelagos.models.networks.scot.compat import load_scot
from pelagos.models.networks.scot.scot import PELAGOS, POSEIDON, ScOT, ScOTConfig, ScOTVariant, _token_places
from pelagos.preprocessing.errors import ConfigError
from tests.models.contracts import NetworkContract

SMALL: dict[str, Any] = {
    "embed_dim": 8,
    "depths": (2, 1),
    "num_heads": (2, 4),
    "skip_connections": (1, 0),
    "window_size": 4,
    "patch_size": 2,
}
ONE_LEVEL = {"depths": (2,), "num_heads": (2,), "skip_connections": (1,)}


class TestPelagos(NetworkContract):
    sizes = ((16, 16), (13, 22), (7, 33), (2, 3))
    checkpointing = True
    compiled = ONE_LEVEL
    identity_at_zero = True
    any_variables = True

    def build(self, signature: Signature, **options: Any) -> ScOT:
        return ScOTConfig(**{**SMALL, **options}).build(signature)


class TestPoseidon(NetworkContract):
    sizes = ((16, 16), (20, 20))
    refused = ((20, 24), (17, 17))
    periodic = (True, True)
    checkpointing = True
    compiled = ONE_LEVEL
    any_variables = True

    def build(self, signature: Signature, **options: Any) -> ScOT:
        return ScOTConfig(preset="poseidon", **{**SMALL, **options}).build(signature)


# Parity with the reference


class Fixture:
    """One folder of reference files and the network loaded from it, in float64."""

    def __init__(self, folder: Path) -> None:
        self.arguments = json.loads((folder / "config.json").read_text())["scot_kwargs"]
        self.state = load_file(folder / "weights.safetensors")
        self.digest = json.loads((folder / "grad_digest.json").read_text())
        self.files = np.load(folder / "io.npz")
        self.net = load_scot(self.arguments, self.state).double()
        self.time = torch.from_numpy(self.files["time"]) if "time" in self.files else None

    def __contains__(self, name: str) -> bool:
        return name in self.files

    def __getitem__(self, name: str) -> Tensor:
        array: NDArray[Any] = self.files[name]
        tensor = torch.from_numpy(array)
        return tensor.double() if tensor.is_floating_point() else tensor

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        """The reference's loss: for each group of channels the error relative to the labels, over the batch."""
        power, edges = self.arguments["p"], self.arguments["channel_slice_list_normalized_loss"]
        if edges is None:
            return (output - labels).abs().pow(power).mean()
        errors = [
            (output[:, i:j] - labels[:, i:j]).abs().pow(power).mean()
            / (labels[:, i:j].abs().pow(power).mean() + 1e-10)
            for i, j in pairwise(edges)
        ]
        return torch.stack(errors).mean()


@pytest.fixture(params="abcd", scope="module")
def fixture(request: pytest.FixtureRequest, shared: Path) -> Fixture:
    return Fixture(shared / "fixtures/scot" / request.param)


def test_outputs_are_the_references(fixture: Fixture) -> None:
    with torch.no_grad():
        y_BCHW = fixture.net(fixture["pixel_values"], fixture.time)
        assert_close(y_BCHW, fixture["output_table64"], rtol=0, atol=1e-10)
        assert_close(y_BCHW, fixture["output"], rtol=0, atol=5e-5)
        if "output_t0" in fixture and fixture.time is not None:
            y_BCHW = fixture.net(fixture["pixel_values"], torch.zeros_like(fixture.time))
            assert_close(y_BCHW, fixture["output_t0"], rtol=0, atol=5e-5)


def test_float32_outputs_are_the_references(fixture: Fixture) -> None:
    net = load_scot(fixture.arguments, fixture.state)
    time = None if fixture.time is None else fixture.time.float()
    with torch.no_grad():
        y_BCHW = net(fixture["pixel_values"].float(), time)
    assert_close(y_BCHW.double(), fixture["output_f32"], rtol=0, atol=2e-3)


def test_hidden_states_are_the_references(fixture: Fixture) -> None:
    net, seen = fixture.net, {}

    def keep(name: str) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            # A stage of the encoder gives its own tokens first, then those for the next.
            tokens = output[0] if isinstance(output, tuple) else output
            seen[name] = tokens.flatten(1, 2)

        return hook

    def keep_input(module: Any, inputs: Any) -> None:
        seen["decoder_hidden_0"] = inputs[0].flatten(1, 2)

    handles = [net.embeddings.register_forward_hook(keep("encoder_hidden_0"))]
    handles += [net.decoder.layers[0].register_forward_pre_hook(keep_input)]
    for name, stages in (("encoder", net.encoder.layers), ("decoder", net.decoder.layers)):
        handles += [
            stage.register_forward_hook(keep(f"{name}_hidden_{i}")) for i, stage in enumerate(stages, 1)
        ]
    with torch.no_grad():
        net(fixture["pixel_values"], fixture.time)
    for handle in handles:
        handle.remove()
    expected = {name for name in fixture.files if "hidden" in name}
    assert set(seen) == expected
    for name in expected:
        assert_close(seen[name], fixture[name], rtol=0, atol=5e-5)


def test_losses_are_the_references(fixture: Fixture) -> None:
    with torch.no_grad():
        y_BCHW = fixture.net(fixture["pixel_values"], fixture.time)
    labels = fixture["labels"]
    assert_close(fixture.loss(y_BCHW, labels), fixture["loss"], rtol=0, atol=5e-5)
    if "pixel_mask" in fixture:
        # The reference pastes labels into the prediction where a channel is masked.
        pasted = torch.where(fixture["pixel_mask"][:, :, None, None], labels, y_BCHW)
        assert_close(fixture.loss(pasted, labels), fixture["loss_masked"], rtol=0, atol=5e-5)


def test_gradients_are_the_references(fixture: Fixture) -> None:
    x_BCHW = fixture["pixel_values"].requires_grad_()
    fixture.net.zero_grad()
    fixture.loss(fixture.net(x_BCHW, fixture.time), fixture["labels"]).backward()
    assert_close(x_BCHW.grad, fixture["grad_pixel_values"], rtol=0, atol=1e-5)
    gradients = {name: p.grad for name, p in fixture.net.named_parameters()}
    assert set(gradients) == set(fixture.digest)
    for name, digest in fixture.digest.items():
        gradient = gradients[name]
        assert gradient is not None
        assert float(gradient.norm()) == pytest.approx(digest["l2"], rel=5e-4), name
        assert float(gradient.sum()) == pytest.approx(digest["sum"], abs=2e-3 * digest["l2"]), name


@pytest.mark.parametrize("size", [32, 64])
def test_other_sizes_are_resampled_as_in_the_reference(shared: Path, size: int) -> None:
    fixture = Fixture(shared / "fixtures/scot/d")
    time = torch.full((1,), 0.4, dtype=torch.float64)
    with torch.no_grad():
        y_BCHW = fixture.net(fixture[f"pixel_values_{size}"], time)
    assert_close(y_BCHW, fixture[f"output_{size}"], rtol=0, atol=5e-5)


# Pelagos's preset


FOUR = ("density", "velocity_x", "velocity_y", "pressure")
DOUBLE = torch.float64


def network(signature: Signature, variant: ScOTVariant = PELAGOS, **options: Any) -> ScOT:
    """A float64 network in which every weight matters."""
    torch.manual_seed(3)
    net = ScOT(signature, ScOTConfig(**{**SMALL, **options}), variant).double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return net


def fields(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=DOUBLE)


TIMES = torch.tensor([0.2, 0.7], dtype=DOUBLE)


def test_pelagos_with_poseidons_switches_and_channels_is_poseidon() -> None:
    signature = Signature(FOUR, FOUR, shape=(32, 32))
    pelagos = network(signature, replace(PELAGOS, boundaries=False, residual="none"))
    poseidon = network(signature, POSEIDON)
    poseidon.load_state_dict(pelagos.state_dict(), strict=True)
    x_BCHW, context = fields(2, 4, 32, 32), Context((0, 1, 2, 3), (0, 1, 2, 3), periodic=(True, True))
    with torch.no_grad():
        assert_close(pelagos(x_BCHW, TIMES, context), poseidon(x_BCHW, TIMES), rtol=0, atol=1e-12)


def test_conditions_of_all_norms_from_one_product_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    # As on GPUs.
    signature = Signature(("u", "v"), ("u", "v"), ("viscosity",))
    network = ScOTConfig(**SMALL).build(signature).double()
    x_BCHW, time_B = torch.randn(2, 2, 16, 16, dtype=torch.float64), torch.rand(2, dtype=torch.float64)
    results = []
    for shared in (shared_conditions, project_for_modules):
        monkeypatch.setattr(scot, "shared_conditions", shared)
        network.zero_grad()
        y_BCHW = network(x_BCHW, time_B)
        y_BCHW.square().sum().backward()
        results.append((y_BCHW.detach(), [parameter.grad for parameter in network.parameters()]))
    assert_close(results[0], results[1], rtol=1e-10, atol=1e-12)


def test_order_of_variables_in_a_call_does_not_matter() -> None:
    net, x_BCHW = network(Signature(FOUR, FOUR)), fields(2, 4, 12, 20)
    order, back = [2, 0, 3, 1], [1, 3, 0, 2]
    with torch.no_grad():
        permuted = net(x_BCHW[:, order], TIMES, Context(tuple(order), tuple(order)))
        assert_close(permuted[:, back], net(x_BCHW, TIMES), rtol=0, atol=1e-11)


def test_a_call_touches_its_own_variables_weights_alone() -> None:
    net, x_BCHW = network(Signature(FOUR, FOUR)), fields(2, 2, 12, 20)
    alone = network(Signature(("velocity_y", "density"), ("pressure",)))
    state = dict(net.state_dict())
    name = "embeddings.patch_embeddings.projection.weight"
    state[name] = state[name][:, [2, 0]]
    for name in ("patch_recovery.projection.weight", "patch_recovery.mixup.weight"):
        state[name] = state[name][:, [3]]
    for name in ("patch_recovery.projection.bias", "patch_recovery.mixup.weight"):
        state[name] = state[name][[3]]
    alone.load_state_dict(state)
    with torch.no_grad():
        some = net(x_BCHW, TIMES, Context(inputs=(2, 0), outputs=(3,)))
        assert_close(some, alone(x_BCHW, TIMES), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("size", "periodic", "shift"),
    [
        # Levels of 16 x 24 and 8 x 12 tokens: windows of 4 of the coarser one are 16 pixels wide.
        ((32, 48), (True, True), (16, 32)),
        ((32, 48), (False, True), (0, 16)),
        ((30, 48), (False, True), (0, 16)),
        # Where a window covers the axis at the coarser level, windows of the finer one decide: 8 pixels.
        ((16, 16), (True, True), (8, 8)),
        # Where it does at all levels, tokens of the coarsest do: 4 pixels.
        ((8, 32), (True, False), (4, 0)),
    ],
)
def test_shifts_by_whole_windows_along_periodic_axes_change_nothing(
    size: tuple[int, int], periodic: tuple[bool, bool], shift: tuple[int, int]
) -> None:
    net, x_BCHW, context = network(Signature(FOUR, FOUR)), fields(2, 4, *size), Context(periodic=periodic)
    with torch.no_grad():
        y_BCHW = net(x_BCHW, TIMES, context)
        moved = net(x_BCHW.roll(shift, (2, 3)), TIMES, context)
    assert_close(moved, y_BCHW.roll(shift, (2, 3)), rtol=0, atol=1e-11)


def test_a_wall_is_not_seen_through() -> None:
    net, x_BCHW = network(Signature(FOUR, FOUR), window_size=2, depths=(1, 1)), fields(1, 4, 8, 64)
    changed = x_BCHW.clone()
    changed[..., 0] += 1
    reaches = {}
    with torch.no_grad():
        for wraps in (False, True):
            context = Context(periodic=(False, wraps))
            difference = net(changed, TIMES[:1], context) - net(x_BCHW, TIMES[:1], context)
            reaches[wraps] = float(difference[..., -1].abs().max())
    assert reaches[False] == 0
    assert reaches[True] > 1e-6


def test_fields_that_are_not_input_are_predicted_even_at_lead_time_zero() -> None:
    signature = Signature(("density",), ("density", "vorticity"))
    net, x_BCHW = network(signature), fields(2, 1, 8, 8)
    with torch.no_grad():
        y_BCHW = net(x_BCHW, torch.zeros(2, dtype=DOUBLE))
    assert_close(y_BCHW[:, :1], x_BCHW, rtol=0, atol=0)
    assert y_BCHW[:, 1].abs().max() > 1e-6


def test_a_fresh_network_changes_little_and_more_with_time() -> None:
    net, x_BCHW = ScOTConfig(**SMALL).build(Signature(FOUR, FOUR)), torch.randn(2, 4, 16, 16)
    with torch.no_grad():
        short, long = (net(x_BCHW, torch.full((2,), time)) - x_BCHW for time in (0.01, 1.0))
    assert 0 < short.std() < 0.1 * long.std()
    assert 0.01 < long.std() < 1


def test_poseidons_initial_weights_leave_blocks_without_gradient_at_lead_time_zero() -> None:
    trained = {}
    for preset, time in (("poseidon", 0.0), ("pelagos", 0.5)):
        net = ScOTConfig(preset=preset, **SMALL).build(Signature(FOUR, FOUR, shape=(16, 16)))
        net(torch.randn(2, 4, 16, 16), torch.full((2,), time)).square().sum().backward()
        weights = net.get_parameter("encoder.layers.0.blocks.0.output.dense.weight")
        assert weights.grad is not None
        trained[preset] = bool(weights.grad.abs().max() > 0)
    assert trained == {"poseidon": False, "pelagos": True}


def test_a_network_without_conditioning_needs_no_lead_time_and_one_with_it_does() -> None:
    x_BCHW = torch.randn(2, 4, 16, 16)
    plain = ScOTConfig(preset="poseidon", use_conditioning=False, **SMALL)
    assert plain.build(Signature(FOUR, FOUR, shape=(16, 16)))(x_BCHW).shape == x_BCHW.shape
    with pytest.raises(ValueError, match="conditioned on lead times, but none were given"):
        ScOTConfig(**SMALL).build(Signature(FOUR, FOUR))(x_BCHW)


def test_lead_times_and_scalars_of_the_wrong_shape_are_errors() -> None:
    net, x_BCHW = ScOTConfig(**SMALL).build(Signature(FOUR, FOUR, ("viscosity",))), torch.randn(2, 4, 8, 8)
    with pytest.raises(ValueError, match=r"lead times of shape \(3,\) for 2 samples"):
        net(x_BCHW, torch.rand(3))
    with pytest.raises(ValueError, match=r"scalars of shape \(2, 2\), \(2, 1\) is right: \('viscosity',\)"):
        net(x_BCHW, torch.rand(2), Context(scalars=torch.rand(2, 2)))
    with pytest.raises(ValueError, match="1 entries of `residual` for 4 output channels"):
        net(x_BCHW, torch.rand(2), Context(residual=(0,)))


@pytest.mark.parametrize(
    ("options", "scalars", "message"),
    [
        ({"depths": (2,)}, (), "differ in length.*'depths': 1.*'num_heads': 2"),
        ({"use_conditioning": False}, ("viscosity",), "use_conditioning is false.*viscosity"),
        ({"use_absolute_embeddings": True}, (), "preset poseidon"),
        ({"learn_residual": True}, (), "preset pelagos always adds the input"),
        ({"preset": "poseidon"}, (), "needs image_size"),
        ({"preset": "poseidon", "image_size": 15}, (), "image_size 15 is not a multiple of patch_size 2"),
    ],
)
def test_settings_that_contradict_each_other_are_errors(
    options: dict[str, Any], scalars: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        ScOTConfig(**{**SMALL, **options}).build(Signature(FOUR, FOUR, scalars))


def on_the_sphere(height: int, width: int, channels: int) -> Context:
    """A grid of cells that goes round, whose second and third channels are components of a vector."""
    latitude = tuple((90 - (np.arange(height) + 0.5) * 180 / height).tolist())
    signs = tuple(-1 if channel in (1, 2) else 1 for channel in range(channels))
    sphere = Sphere(latitude, tuple((np.arange(width) * 360 / width).tolist()), signs, whole=True)
    return Context(periodic=(False, True), sphere=sphere)


@pytest.mark.parametrize("location", [0, 4])
def test_a_network_with_poles_turns_with_the_earth(location: int) -> None:
    torch.manual_seed(0)
    signature = Signature(("a", "u", "v"), ("a", "u", "v"))
    config = ScOTConfig(**SMALL, pole_patches=1, location_degrees=location)
    network = config.build(signature).double().eval()
    x_BCHW, lead_B, context = (
        torch.randn(1, 3, 11, 32).double(),
        torch.ones(1).double(),
        on_the_sphere(11, 32, 3),
    )
    # By whole windows of the coarsest grid of tokens, which lie as before; by half a turn, which is one of them too.
    for shift in (16, 32):
        turned, still = network(x_BCHW.roll(shift, -1), lead_B, context), network(x_BCHW, lead_B, context)
        if location and shift == 16:
            assert (turned - still.roll(shift, -1)).abs().max() > 1e-3, "places are told apart"
        else:
            assert_close(turned, still.roll(shift, -1), rtol=0, atol=1e-12)


def test_what_happens_beyond_the_pole_is_seen_there_and_nowhere_else() -> None:
    torch.manual_seed(0)
    signature = Signature(("a", "u", "v"), ("a", "u", "v"))
    x_BCHW, lead_B, context = torch.randn(1, 3, 16, 32), torch.ones(1), on_the_sphere(16, 32, 3)
    changed = x_BCHW.clone()
    changed[:, :, 0, 20] += 1.0
    for patches in (0, 1):
        config = ScOTConfig(**{**SMALL, **ONE_LEVEL, "skip_connections": (0,)}, pole_patches=patches)
        network = config.build(signature).eval()
        moved = (network(changed, lead_B, context) - network(x_BCHW, lead_B, context)).abs().amax((0, 1))
        # Column 20 - 16 = 4 is across the pole from the change; windows of four tokens do not reach it round the Earth.
        assert (moved[0, 4] > 1e-6) == bool(patches)


def test_a_grid_without_poles_has_no_rows_beyond_them() -> None:
    signature = Signature(("a",), ("a",))
    x_BCHW, lead_B = torch.randn(1, 1, 12, 16), torch.ones(1)
    torch.manual_seed(0)
    plain = ScOTConfig(**SMALL).build(signature).eval()
    torch.manual_seed(0)
    padded = ScOTConfig(**SMALL, pole_patches=2).build(signature).eval()
    assert torch.equal(plain(x_BCHW, lead_B), padded(x_BCHW, lead_B))
    region = on_the_sphere(12, 16, 1)
    assert region.sphere is not None
    region = replace(region, sphere=replace(region.sphere, whole=False))
    assert torch.equal(plain(x_BCHW, lead_B, region), padded(x_BCHW, lead_B, region))


def test_tokens_are_placed_at_the_centres_of_their_patches() -> None:
    sphere = on_the_sphere(6, 5, 1).sphere
    assert sphere is not None
    rows, columns = _token_places(sphere, (2, 2), 2)
    assert rows == pytest.approx((120.0, 60.0, 0.0, -60.0, -120.0))
    assert columns == pytest.approx((36.0, 180.0, 324.0))
