"""Window attention against its definition, token by token; and that the position bias is never stale."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from pelagos.models.layers import masked_attention
from pelagos.models.networks.scot.attention import Tiling, WindowAttention
from pelagos.preprocessing.errors import ConfigError

DIM, HEADS = 6, 2


def attention(tiling: Tiling, dtype: torch.dtype = torch.float64) -> WindowAttention:
    torch.manual_seed(0)
    layer = WindowAttention(DIM, HEADS, tiling, bias_dim=16).to(dtype).eval()
    with torch.no_grad():
        layer.logit_scale.copy_(torch.tensor([1.0, 6.0]).view(2, 1, 1))  # the second past the clamp
        for parameter in layer.continuous_position_bias_mlp.parameters():
            parameter.normal_()
    return layer


def tokens(batch: int, count: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(batch, count, DIM, generator=torch.Generator().manual_seed(1), dtype=dtype)


def seen_along(length: int, window: int, shift: int, wraps: bool) -> Tensor:
    """(N, N) offset of each pair of tokens along one axis as attention sees it, NaN where it does not."""
    places = -(-length // window) * window
    cycle = length if wraps else places
    offsets = torch.full((length, length), torch.nan, dtype=torch.float64)
    for token in range(length):
        place = (token - shift) % cycle
        start = place // window * window
        for other in range(start, start + window):
            source = (other + shift) % cycle
            real = source < length
            same_side = wraps or (other + shift) // cycle == (place + shift) // cycle
            if real and same_side:
                offset = float(place - other)
                if wraps and window == length:
                    offset = (offset + window // 2) % window - window // 2
                offsets[token, source] = offset
    return offsets


def by_definition(
    layer: WindowAttention, x_BND: Tensor, grid: tuple[int, int], periodic: tuple[bool, bool]
) -> Tensor:
    """What the layer must give, in a matrix of all tokens by all tokens."""
    tiling = layer.tiling
    axes = []
    for length, wraps in zip(grid, periodic, strict=True):
        window = min(tiling.window, length)
        axes.append(
            seen_along(length, window, window // 2 if tiling.shifted and length > window else 0, wraps)
        )
    rows, columns = axes
    height, width = grid
    offsets = torch.stack(
        [
            rows[:, None, :, None].expand(height, width, height, width),
            columns[None, :, None, :].expand(height, width, height, width),
        ],
        -1,
    ).reshape(height * width, height * width, 2)
    hidden = offsets.isnan().any(-1)
    scaled = offsets.nan_to_num() * 8 / (tiling.window - 1)
    first, _, last = layer.continuous_position_bias_mlp
    log_spaced = scaled.sign() * torch.log2(1 + scaled.abs()) / 3
    bias = 16 * torch.sigmoid(last(torch.relu(first(log_spaced)))).permute(2, 0, 1)
    q, k, v = (
        part(x_BND).unflatten(-1, (HEADS, -1)).transpose(1, 2)
        for part in (layer.query, layer.key, layer.value)
    )
    cosines = torch.nn.functional.normalize(q, dim=-1) @ torch.nn.functional.normalize(k, dim=-1).mT
    logits = cosines * layer.logit_scale.exp().clamp(max=100) + bias
    weights = logits.masked_fill(hidden, -torch.inf).softmax(-1)
    out: Tensor = (weights @ v).transpose(1, 2).flatten(2)
    return out


GRIDS = [(4, 4), (8, 4), (5, 7), (3, 9), (2, 11), (1, 6)]


@pytest.mark.parametrize("periodic", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("grid", GRIDS)
def test_attention_is_what_its_definition_says_on_any_grid(
    grid: tuple[int, int], shifted: bool, periodic: tuple[bool, bool]
) -> None:
    layer = attention(Tiling(4, shifted))
    x_BND = tokens(2, grid[0] * grid[1])
    with torch.no_grad():
        assert_close(
            layer(x_BND, grid, periodic), by_definition(layer, x_BND, grid, periodic), rtol=0, atol=1e-12
        )


@pytest.mark.parametrize("periodic", [(False, False), (True, True)])
@pytest.mark.parametrize("saved", [0, 10**9])
@pytest.mark.parametrize("at_once", [1, 16**2, 4 * HEADS * 16**2, 13 * HEADS * 16**2, 10**9])
def test_gradients_are_those_of_the_definition_however_they_are_computed(
    monkeypatch: pytest.MonkeyPatch, saved: int, at_once: int, periodic: tuple[bool, bool]
) -> None:
    monkeypatch.setattr(masked_attention, "MAX_SAVED_LOGITS", saved)
    monkeypatch.setattr(masked_attention, "LOGITS_PER_BLOCK", at_once)
    grid, layer = (6, 9), attention(Tiling(4, shifted=True))
    x_BND = tokens(3, 54).requires_grad_()
    upstream = torch.randn(x_BND.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    leaves = [x_BND, *layer.parameters()]
    found = torch.autograd.grad(layer(x_BND, grid, periodic), leaves, upstream)
    expected = torch.autograd.grad(by_definition(layer, x_BND, grid, periodic), leaves, upstream)
    assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("at_once", [1, 4 * HEADS * 16**2, 10**9])
def test_attention_without_gradients_is_the_same_for_a_few_windows_at_a_time(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(masked_attention, "LOGITS_PER_BLOCK", at_once)
    grid, layer, x_BND = (6, 9), attention(Tiling(4, shifted=True)), tokens(3, 54)
    with torch.no_grad():
        found = layer(x_BND, grid, (False, False))
        assert_close(found, by_definition(layer, x_BND, grid, (False, False)), rtol=0, atol=1e-12)


def test_window_over_a_whole_periodic_axis_knows_no_origin() -> None:
    layer, grid = attention(Tiling(8)), (6, 8)
    x_BhwD = tokens(1, 48).view(1, 6, 8, DIM)

    def apply(x: Tensor) -> Tensor:
        out: Tensor = layer(x.flatten(1, 2), grid, (True, True))
        return out.view(x.shape)

    with torch.no_grad():
        moved = apply(x_BhwD.roll((1, 3), (1, 2)))
        assert_close(moved, apply(x_BhwD).roll((1, 3), (1, 2)), rtol=0, atol=1e-12)


def test_reference_sees_padding_and_decides_by_the_grid_that_it_was_built_for() -> None:
    layer = attention(Tiling(4, shifted=True, built_for=(2, 2)))
    x_BND = tokens(1, 9)
    padded = torch.zeros(1, 4, 4, DIM, dtype=torch.float64)
    padded[:, :3, :3] = x_BND.view(1, 3, 3, DIM)
    with torch.no_grad():
        y_BhwD = layer(padded.flatten(1, 2), (4, 4), (False, False)).view(1, 4, 4, DIM)
        assert_close(
            layer(x_BND, (3, 3), (False, False)), y_BhwD[:, :3, :3].flatten(1, 2), rtol=0, atol=1e-12
        )


def test_bf16_attention_is_close_to_exact() -> None:
    exact = attention(Tiling(4, shifted=True))
    x_BND = tokens(2, 64)
    with torch.no_grad():
        exact.logit_scale.fill_(1.0)
        low = copy.deepcopy(exact).float()
        expected = exact(x_BND, (8, 8), (False, False))
        with torch.autocast("cpu", torch.bfloat16):
            found = low(x_BND.float(), (8, 8), (False, False))
    assert float((found.double() - expected).norm() / expected.norm()) < 0.05


def test_channels_that_do_not_split_into_heads_are_an_error() -> None:
    with pytest.raises(ConfigError, match="6 channels do not split into 4 heads"):
        WindowAttention(6, 4, Tiling(4))


# The position bias is cached while weights do not change, and no longer


def outputs(layer: WindowAttention, grid: tuple[int, int] = (4, 8)) -> Tensor:
    with torch.no_grad():
        x_BND = tokens(1, grid[0] * grid[1], layer.query.weight.dtype)
        out: Tensor = layer(x_BND, grid, (False, False))
    return out


def fresh_outputs(layer: WindowAttention, grid: tuple[int, int] = (4, 8)) -> Tensor:
    return outputs(copy.deepcopy(layer), grid)


def optimiser_step(layer: WindowAttention) -> None:
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
    layer(tokens(1, 32), (4, 8), (False, False)).square().sum().backward()
    optimiser.step()


def engine_step(layer: WindowAttention) -> None:
    """As DeepSpeed writes: through `.data`, which autograd's version counters do not see."""
    layer.train()
    layer(tokens(1, 32), (4, 8), (False, False)).square().sum().backward()
    for parameter in layer.parameters():
        parameter.data.add_(0.1)
    layer.eval()


def load(layer: WindowAttention) -> None:
    layer.load_state_dict({name: value + 0.1 for name, value in layer.state_dict().items()})


def assign(layer: WindowAttention) -> None:
    layer.load_state_dict({k: v + 0.1 for k, v in layer.state_dict().items()}, assign=True)


def write(layer: WindowAttention) -> None:
    with torch.no_grad():
        layer.continuous_position_bias_mlp.get_parameter("2.weight").mul_(-1)


CHANGES: list[Any] = [optimiser_step, engine_step, load, assign, write]


@pytest.mark.parametrize("change", CHANGES)
def test_position_bias_is_not_stale_after(change: Any) -> None:
    layer = attention(Tiling(4))
    before = outputs(layer)
    change(layer)
    after = outputs(layer)
    assert_close(after, fresh_outputs(layer), rtol=0, atol=0)
    assert (after - before).abs().max() > 1e-6


def test_position_bias_follows_the_type_of_the_weights_and_the_grid() -> None:
    layer = attention(Tiling(4))
    outputs(layer)
    layer.float()
    assert outputs(layer).dtype == torch.float32
    layer.double()
    for grid in ((4, 8), (3, 5), (4, 8)):
        assert_close(outputs(layer, grid), fresh_outputs(layer, grid), rtol=0, atol=0)


def test_position_bias_is_computed_once_while_weights_stay() -> None:
    layer = attention(Tiling(4))
    calls = []
    layer.continuous_position_bias_mlp.register_forward_hook(lambda *_: calls.append(1))
    for _ in range(3):
        outputs(layer)
    assert len(calls) == 1


def test_layers_first_used_in_inference_mode_can_be_trained() -> None:
    layer, grid = attention(Tiling(4, shifted=True)), (6, 7)
    with torch.inference_mode():
        layer(tokens(1, 42), grid, (False, False))
    layer(tokens(1, 42), grid, (False, False)).sum().backward()
    assert layer.key.weight.grad is not None


def test_after_a_write_through_data_in_evaluation_eval_forgets_the_position_bias() -> None:
    layer = attention(Tiling(4))
    before = outputs(layer)
    layer.continuous_position_bias_mlp.get_parameter("2.weight").data.mul_(-1)
    layer.eval()
    after = outputs(layer)
    assert_close(after, fresh_outputs(layer), rtol=0, atol=0)
    assert (after - before).abs().max() > 1e-6
