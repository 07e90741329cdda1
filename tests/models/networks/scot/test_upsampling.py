"""Recoveries by interpolation are the two steps they are made of, and leave no seams between patches."""

from typing import Literal, get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from pelagos.models.context import Context, Signature
from pelagos.models.networks.scot.compat import save_scot
from pelagos.models.networks.scot.patches import PatchProjection
from pelagos.models.networks.scot.scot import ScOTConfig
from pelagos.models.networks.scot.upsampling import InterpolatedRecovery, Interpolation, icnr_
from pelagos.preprocessing.errors import ConfigError

PERIODIC = (True, True)


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("patch", [2, 4])
@pytest.mark.parametrize("kind", get_args(Interpolation))
def test_one_kernel_is_interpolation_and_convolution(kind: Interpolation, patch: int) -> None:
    layer = InterpolatedRecovery(3, 4, patch, kind).double()
    tokens = random(2, 5, 6, 3)
    # Three times in each direction, so that the middle one has its neighbours around it.
    tiled = tokens.permute(0, 3, 1, 2).repeat(1, 1, 3, 3)
    smooth = F.interpolate(tiled, scale_factor=patch, mode=kind)
    expected = F.conv2d(smooth, layer.projection.weight, layer.projection.bias, padding=2)
    size = (5 * patch, 6 * patch)
    middle = expected[:, :, size[0] : 2 * size[0], size[1] : 2 * size[1]]
    assert_close(layer(tokens, size, None, PERIODIC, "edge"), middle, rtol=0, atol=1e-12)
    chosen = layer(tokens, size, (2, 0), PERIODIC, "edge")
    assert_close(chosen, middle[:, [2, 0]], rtol=0, atol=1e-12)
    cropped = layer(tokens, (5 * patch - 1, 6 * patch - 1), None, PERIODIC, "edge")
    assert_close(cropped, middle[:, :, :-1, :-1], rtol=0, atol=1e-12)


def test_edges_continue_with_their_own_tokens() -> None:
    layer = InterpolatedRecovery(2, 1, 4, "nearest").double()
    tokens = random(1, 3, 3, 2)
    wide = F.pad(F.interpolate(tokens.permute(0, 3, 1, 2), scale_factor=4.0), (2, 2, 2, 2), mode="replicate")
    expected = F.conv2d(wide, layer.projection.weight, layer.projection.bias)
    assert_close(layer(tokens, (12, 12), None, (False, False), "edge"), expected, rtol=0, atol=1e-12)


def patch_peak(upsampling: Literal["transposed", "pixel_shuffle", "nearest", "bilinear"]) -> float:
    """Energy of a fresh network's output at the wave number of its patches, relative to the wave numbers beside it."""
    torch.manual_seed(1)
    signature = Signature(("u",), ("v",))
    config = ScOTConfig(
        embed_dim=16, depths=(1,), num_heads=(2,), skip_connections=(0,), window_size=4, upsampling=upsampling
    )
    network = config.build(signature).eval()
    # Smooth fields, whose neighbouring patches are much alike.
    angle = 2 * torch.pi * torch.arange(64) / 64
    x = torch.stack([torch.sin(angle[:, None] + k) + torch.cos(2 * angle + k) for k in range(4)])[:, None]
    context = Context(periodic=PERIODIC)
    with torch.no_grad():
        y = network(x, torch.ones(4), context)
    power = torch.fft.rfft(y.mean(-2), dim=-1).abs().square().mean((0, 1))
    # 64 points in patches of 4 have 16 periods; the fields' own waves stand beside them as side bands.
    return float(power[16] / power[[11, 12, 20, 21]].mean())


def test_only_patches_of_their_own_leave_a_peak_at_their_wave_number() -> None:
    assert patch_peak("transposed") > 10
    assert patch_peak("nearest") < 3
    assert patch_peak("bilinear") < 3


def test_weights_of_icnr_make_constant_patches() -> None:
    weight = torch.empty(6, 2, 4, 4)
    icnr_(weight, 0.5)
    assert torch.equal(weight, weight[:, :, :1, :1].expand_as(weight))
    assert 0.3 < float(weight[:, :, 0, 0].std()) < 0.8


def test_overlapping_patches_see_their_neighbours() -> None:
    layer = PatchProjection(3, 5, 2, overlap=1).double()
    x_BCHW = random(2, 3, 6, 8)
    wrapped = F.pad(x_BCHW, (1, 1, 1, 1), mode="circular")
    expected = F.conv2d(wrapped, layer.projection.weight, layer.projection.bias, stride=2)
    assert_close(layer(x_BCHW, None, PERIODIC).permute(0, 3, 1, 2), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", [{"upsampling": "bilinear"}, {"patch_overlap": 1}])
def test_what_poseidon_has_not_is_not_exported(options: dict[str, object]) -> None:
    small = {"embed_dim": 4, "depths": (1,), "num_heads": (2,), "skip_connections": (0,), "image_size": 8}
    network = ScOTConfig.model_validate({"preset": "poseidon", **small, **options}).build(
        Signature(("u",), ("u",))
    )
    with pytest.raises(ConfigError, match="do not overlap"):
        save_scot(network)
