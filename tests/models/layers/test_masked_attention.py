"""Attention against its formula, however it is computed; and heads of a given length."""

from itertools import product

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from pelagos.models.layers import masked_attention as module
from pelagos.models.layers.masked_attention import cosine_heads, masked_attention, scaled_heads

SAMPLES, WINDOWS, HEADS, PLACES, CHANNELS = 3, 4, 2, 5, 6
BLOCKS = (1, PLACES**2, 3 * HEADS * PLACES**2, WINDOWS * HEADS * PLACES**2, 2**20)


def inputs(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Queries, keys, values and bias."""
    generator = torch.Generator().manual_seed(0)
    shape = (SAMPLES * WINDOWS, HEADS, PLACES, CHANNELS)
    shapes = (shape, shape, shape, (HEADS, PLACES, PLACES))
    return [torch.randn(size, generator=generator, dtype=torch.float64).to(dtype) for size in shapes]


def mask(dtype: torch.dtype = torch.float64) -> Tensor:
    """(n, M, M): other places are hidden in each window, never a place from itself."""
    generator = torch.Generator().manual_seed(1)
    hidden_nMM = torch.rand(WINDOWS, PLACES, PLACES, generator=generator) < 0.4
    return torch.zeros(hidden_nMM.shape, dtype=dtype).masked_fill(
        hidden_nMM & ~torch.eye(PLACES, dtype=torch.bool), -torch.inf
    )


def by_formula(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, mask_nMM: Tensor | None) -> Tensor:
    logits = torch.einsum("zhid,zhjd->zhij", q, k) + bias
    if mask_nMM is not None:
        logits = logits + mask_nMM.repeat(SAMPLES, 1, 1)[:, None]
    return torch.einsum("zhij,zhjd->zhid", logits.softmax(-1), v)


@pytest.fixture(params=list(product(BLOCKS, (0, 2**22))), ids=lambda sizes: f"{sizes[0]}-{sizes[1]}")
def block_sizes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way to divide the work, with weights saved or recomputed."""
    at_once, saved = request.param
    monkeypatch.setattr(module, "LOGITS_PER_BLOCK", at_once)
    monkeypatch.setattr(module, "MAX_SAVED_LOGITS", saved)


@pytest.mark.usefixtures("block_sizes")
@pytest.mark.parametrize("mask_nMM", [None, mask()], ids=["no mask", "mask"])
def test_outputs_and_gradients_are_those_of_the_formula(mask_nMM: Tensor | None) -> None:
    leaves = [tensor.requires_grad_() for tensor in inputs()]
    q, k, v, bias = leaves
    found, expected = masked_attention(q, k, v, bias, mask_nMM), by_formula(q, k, v, bias, mask_nMM)
    assert_close(found, expected, rtol=0, atol=1e-12)
    upstream = torch.randn_like(found)
    assert_close(
        torch.autograd.grad(found, leaves, upstream),
        torch.autograd.grad(expected, leaves, upstream),
        rtol=0,
        atol=1e-11,
    )
    with torch.no_grad():
        assert_close(masked_attention(q, k, v, bias, mask_nMM), expected, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("block_sizes")
def test_hidden_places_have_no_influence() -> None:
    q, k, v, bias = inputs()
    mask_nMM = torch.zeros(WINDOWS, PLACES, PLACES, dtype=torch.float64)
    mask_nMM[:, :, -1] = -torch.inf
    with torch.no_grad():
        before = masked_attention(q, k, v, bias, mask_nMM)
        k[..., -1, :], v[..., -1, :] = 100.0, 100.0
        assert_close(masked_attention(q, k, v, bias, mask_nMM), before, rtol=0, atol=0)


@pytest.mark.parametrize("masked", [False, True])
def test_queries_of_another_precision_than_keys_are_served_without_gradients(masked: bool) -> None:
    """Normalised queries are float32 under autocast where keys and values are bf16."""
    q, k, v, bias = inputs(torch.float32)
    mask_nMM = mask(torch.float32) if masked else None
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = masked_attention(q, k.bfloat16(), v.bfloat16(), bias, mask_nMM)
    assert_close(found.float(), by_formula(q, k, v, bias, mask_nMM), rtol=0, atol=0.1)


def test_heads_have_the_length_that_is_given_and_zeros_stay_zero() -> None:
    x_ZMD = torch.randn(4, 3, 6, dtype=torch.float64)
    x_ZMD[0, 0] = 0
    lengths = torch.tensor([2.0, 5.0], dtype=torch.float64)
    y_ZhMd = scaled_heads(x_ZMD, lengths.view(2, 1, 1))
    assert y_ZhMd.shape == (4, 2, 3, 3)
    expected = lengths.view(1, 2, 1).expand(4, 2, 3).clone()
    expected[0, :, 0] = 0
    assert_close(y_ZhMd.norm(dim=-1), expected, rtol=1e-14, atol=1e-14)
    heads = x_ZMD.unflatten(-1, (2, 3)).transpose(1, 2)
    assert_close(torch.linalg.cross(y_ZhMd, heads), torch.zeros_like(heads), rtol=0, atol=1e-14)


def test_gradients_of_scaled_heads_are_those_of_their_definition() -> None:
    x_ZMD = torch.randn(4, 3, 6, dtype=torch.float64, requires_grad=True)
    factor_h11 = torch.tensor([2.0, 5.0], dtype=torch.float64).view(2, 1, 1).requires_grad_()
    assert torch.autograd.gradcheck(scaled_heads, (x_ZMD, factor_h11))


def test_cosines_by_root_mean_squares_are_the_same_with_their_gradients() -> None:
    q_ZMD, k_ZMD = (torch.randn(3, 4, 10, dtype=torch.float64) for _ in range(2))
    k_ZMD[0, 1] = 0  # a place of padding
    scale_h11 = torch.tensor([3.0, 50.0], dtype=torch.float64)[:, None, None]
    results = []
    for joint in (True, False):
        q, k, scale = (part.clone().requires_grad_() for part in (q_ZMD, k_ZMD, scale_h11))
        pair = (
            cosine_heads(q, k, scale)
            if joint
            else (scaled_heads(q, scale), scaled_heads(k, torch.ones_like(scale)))
        )
        logits_ZhMM = pair[0] @ pair[1].transpose(-2, -1)
        grads = torch.autograd.grad(logits_ZhMM.sin().sum(), (q, k, scale))
        # That of the zero vector has no direction, and is 1e12 times as large as others.
        results.append((logits_ZhMM.detach(), grads[0], grads[1][1:], grads[2]))
    assert_close(results[0], results[1], rtol=1e-12, atol=1e-12)
