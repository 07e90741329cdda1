import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from pelagos.models.layers import truncated_transform
from pelagos.models.layers.spectral_conv import Norm, SpectralConv


def smooth(size: int) -> Tensor:
    """(1, 2, size, size): the same two fields of low waves on a grid of any size."""
    x = torch.arange(size, dtype=torch.float64) * 2 * math.pi / size
    first = 1 + x.cos()[:, None] + (2 * x).sin() * (x[:, None] * 2).cos()
    return torch.stack([first, (x[:, None] - x).sin()])[None]


def layer(norm: Norm, **options: object) -> SpectralConv:
    torch.manual_seed(0)
    conv = SpectralConv(2, 3, (4, 4), norm=norm, offset=0.5).double()
    for bias in conv.bias:
        torch.nn.init.normal_(bias)
    return conv


@pytest.mark.parametrize("steps", [5, 6, 12])
def test_each_mode_is_multiplied_by_its_own_matrix(steps: int) -> None:
    """Written out with full complex transforms, of which the last axis is resampled."""
    conv = layer("forward")
    v = torch.randn(2, 2, 9, 8, dtype=torch.float64)
    modes = torch.fft.fft2(v, norm="forward")
    out = torch.zeros(2, 3, 9, steps, dtype=torch.complex128)
    x, t = torch.arange(9, dtype=torch.float64), torch.arange(steps, dtype=torch.float64)
    frequencies = [(k, m) for k in range(-4, 4) for m in range(min(4, steps // 2 + 1))]
    for k, m in frequencies:
        corner, row = (0, k) if k >= 0 else (1, k + 4)
        weight = torch.view_as_complex(conv.weight[corner][:, :, row, m].contiguous())
        offset = torch.view_as_complex(conv.bias[corner][:, row, m].contiguous())
        amplitude = torch.einsum("bi,io->bo", modes[..., k % 9, m], weight) + 0.5 * offset
        wave = torch.exp(2j * math.pi * (k * x[:, None] / 9 + m * t / steps))
        own_conjugate = m == 0 or 2 * m == steps
        out += (1 if own_conjugate else 2) * amplitude[:, :, None, None] * wave
    assert_close(conv(v, steps), out.real, rtol=0, atol=1e-12)


def test_forward_norm_does_the_same_on_every_grid() -> None:
    coarse, fine = (layer("forward")(smooth(size)) for size in (12, 36))
    assert_close(fine[..., ::3, ::3], coarse, rtol=0, atol=1e-12)


def test_reference_norm_fades_offsets_on_finer_grids() -> None:
    coarse, fine = (layer("backward")(smooth(size)) for size in (12, 36))
    assert (fine[..., ::3, ::3] - coarse).abs().max() > 1e-2


@pytest.mark.parametrize(("norm", "factor"), [("forward", 1.0), ("backward", 0.25)])
def test_a_constant_keeps_its_amplitude_at_another_length(norm: Norm, factor: float) -> None:
    """spectral-refiner.md 1.1: in the reference a constant taken from 10 to 40 steps becomes 0.25."""
    conv = SpectralConv(1, 1, (2, 2), norm=norm).double()
    for weight in conv.weight:
        torch.nn.init.zeros_(weight)
        torch.nn.init.ones_(weight[..., 0])
    y = conv(torch.ones(1, 1, 6, 10, dtype=torch.float64), 40)
    assert_close(y, torch.full((1, 1, 6, 40), factor, dtype=torch.float64), rtol=0, atol=1e-14)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_grids_too_coarse_for_all_modes_use_the_lower_ones(size: int) -> None:
    conv = layer("forward")
    constant = torch.ones(1, 2, size, size, dtype=torch.float64)
    for bias in conv.bias:
        torch.nn.init.zeros_(bias)
    assert_close(conv(constant), conv(torch.ones(1, 2, 16, 16).double())[..., :size, :size])


def test_low_precision_is_transformed_in_full() -> None:
    conv, x = layer("forward").float(), smooth(12).float()
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(conv(x), conv.double()(x.double()).float(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("norm", ["forward", "backward"])
@pytest.mark.parametrize(
    ("points", "modes", "options"),
    [
        ((9, 8), (4, 4), {}),
        ((8, 9), (3, 5), {"behind": (1, 3)}),
        ((6, 4, 10), (2, 3, 4), {"steps": 7}),
        ((3, 2), (4, 4), {}),
    ],
)
def test_products_of_matrices_are_fast_transforms(
    points: tuple[int, ...],
    modes: tuple[int, ...],
    options: dict[str, object],
    norm: Norm,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    conv = SpectralConv(2, 3, modes, norm=norm, offset=0.5).double()
    for bias in conv.bias:
        torch.nn.init.normal_(bias)
    x = torch.randn(2, 2, *points, dtype=torch.float64, requires_grad=True)
    with torch.inference_mode(), torch.device("meta"):
        conv(x, **options)  # what it keeps must serve a pass with gradients, elsewhere
    found = []
    for most in (100, -1):
        monkeypatch.setattr(truncated_transform, "MODES_PER_OCTAVE", most)
        y = conv(x, **options)
        found.append([y, *torch.autograd.grad(y.square().sum(), [x, *conv.parameters()])])
    assert_close(*found, rtol=1e-12, atol=1e-12)
