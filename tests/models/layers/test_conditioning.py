"""Conditions and the normalisations that hear them."""

import pytest
import torch
from torch.testing import assert_close

from pelagos.models.layers.conditioning import (
    ConditionalLayerNorm,
    condition_names,
    encode_conditions,
    layer_norm,
    project_conditions,
    signed_log,
)


def test_decades_of_a_scalar_count_alike_and_signs_are_kept() -> None:
    x = torch.tensor([1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0], dtype=torch.float64)
    steps = signed_log(x).diff()
    assert_close(steps, steps.mean().expand(5), rtol=0.05, atol=0)
    assert_close(signed_log(-x), -signed_log(x), rtol=0, atol=0)
    assert signed_log(torch.zeros(1)) == 0
    assert signed_log(torch.ones(1)) == pytest.approx(1)


def test_missing_scalars_are_zero_and_marked() -> None:
    scalars_BS = torch.tensor([[1.0, torch.nan], [torch.nan, -1.0]])
    found = encode_conditions(torch.tensor([0.5, 0.25]), scalars_BS, ("a", "b"))
    names = condition_names(("a", "b"))
    assert names[:5] == ("lead_time", "value:a", "value:b", "known:a", "known:b")
    assert_close(found[:, :5], torch.tensor([[0.5, 1, 0, 1, 0], [0.25, 0, -1, 0, 1]]))
    assert len(names) == found.shape[1]
    for row, missing in enumerate("ba"):
        assert all(
            found[row, column] == 0 for column, name in enumerate(names) if name.endswith(f":{missing}")
        )


def test_values_that_differ_by_half_are_told_apart_at_any_magnitude() -> None:
    # The range of a dataset is often less than a decade: an affine function has to hear it beside constants.
    for x in (1e-5, 1e-3, 0.3, 20.0, -0.01):
        scalars_BS = torch.tensor([[x], [1.5 * x]], dtype=torch.float64)
        first, second = encode_conditions(torch.ones(2, dtype=torch.float64), scalars_BS, ("a",))
        assert (first - second).abs().max() > 0.15, x
    # Over four decades, in which the waves come again, the logarithm tells.
    scalars_BS = torch.tensor([[1e-2], [1e2]], dtype=torch.float64)
    first, second = encode_conditions(torch.ones(2, dtype=torch.float64), scalars_BS, ("a",))
    assert (first - second).abs().max() > 0.5


def test_waves_are_smooth_through_zero_and_odd_or_even_in_the_sign() -> None:
    x = torch.tensor([[0.0], [1e-9], [-1e-9], [1e-3], [-1e-3]], dtype=torch.float64)
    found = encode_conditions(torch.ones(5, dtype=torch.float64), x, ("a",))
    assert_close(found[1:3], found[:1].expand(2, -1), rtol=0, atol=1e-2)
    signs = torch.tensor(
        [-1.0 if name.startswith(("value", "sine")) else 1.0 for name in condition_names(("a",))]
    )
    assert_close(found[4], found[3] * signs, rtol=0, atol=1e-12)


def test_one_projection_serves_several_norms() -> None:
    # What a GPU computes with in place of a product of matrices for each.
    norms = [ConditionalLayerNorm(dim, 3).double() for dim in (4, 6)]
    x, c = torch.randn(2, 5, 6, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    first, last = project_conditions(norms, c)
    assert [tuple(part.shape) for part in (*first, *last)] == [(2, 4), (2, 4), (2, 6), (2, 6)]
    assert_close(norms[1](x, last), norms[1](x, c), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("num_conditions", [1, 5])
def test_gain_and_shift_are_affine_in_the_conditions(num_conditions: int) -> None:
    norm = ConditionalLayerNorm(6, num_conditions).double()
    x, c = torch.randn(3, 2, 4, 6, dtype=torch.float64), torch.randn(3, num_conditions, dtype=torch.float64)
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, correction=0, keepdim=True)
    gain, shift = norm.weight(c)[:, None, None], norm.bias(c)[:, None, None]
    expected = (x - mean) / (variance + 1e-5).sqrt() * gain + shift
    assert_close(norm(x, c), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("autocast", [False, True])
def test_variance_is_right_far_from_zero_mean(autocast: bool) -> None:
    x = 3000 + torch.randn(2, 50, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    norm, c = layer_norm(48, 1, 1e-5), torch.ones(2, 1)
    with torch.no_grad():
        exact = layer_norm(48, 1, 1e-5).double()
        exact.load_state_dict(norm.state_dict())
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            found = norm(x.float(), c)
        expected = exact(x.float().double(), c.double())
    assert_close(found.double(), expected, rtol=0, atol=2e-3)


def test_autocast_tells_nearby_lead_times_apart() -> None:
    norm, x = layer_norm(8, 1, 1e-5), torch.randn(1, 3, 8).expand(2, 3, 8)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        first, second = norm(x, torch.tensor([[1.0], [1.001]]))
    assert (first - second).abs().max() > 1e-5


def test_norm_without_conditions_is_the_plain_one() -> None:
    norm = layer_norm(6, 0, 1e-5)
    x = torch.randn(2, 3, 6)
    assert_close(norm(x, torch.zeros(2, 0)), torch.nn.functional.layer_norm(x, (6,)), rtol=0, atol=0)
    assert set(norm.state_dict()) == {"weight", "bias"}
