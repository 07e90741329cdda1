"""Fields of a call in the order of a network's channels, and back."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from pelagos.models.channel_fields import ChannelFields
from pelagos.models.context import ALL_VARIABLES, Context, Signature
from pelagos.models.layers.conditioning import condition_names, encode_conditions

CHANNELS = ChannelFields(Signature(("a", "b", "c"), ("b", "d", "a"), ("viscosity",)))


@pytest.fixture(name="x_BCHW")
def fields() -> Tensor:
    return torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))


def test_calls_with_all_variables_are_passed_through(x_BCHW: Tensor) -> None:
    call = CHANNELS.select(x_BCHW, torch.zeros(2), ALL_VARIABLES)
    assert CHANNELS.all_inputs(x_BCHW, call) is x_BCHW
    assert CHANNELS.requested_outputs(x_BCHW, call) is x_BCHW


def test_missing_inputs_are_zero_and_others_find_their_channel(x_BCHW: Tensor) -> None:
    some_BCHW = x_BCHW[:, [2, 0]]
    call = CHANNELS.select(some_BCHW, torch.zeros(2), Context(inputs=(2, 0)))
    expected = x_BCHW.clone()
    expected[:, 1] = 0
    assert_close(CHANNELS.all_inputs(some_BCHW, call), expected, rtol=0, atol=0)


def test_conditions_are_constant_channels_behind_the_fields(x_BCHW: Tensor) -> None:
    times_B, scalars_BS = torch.tensor([0.25, 0.5]), torch.tensor([[0.1], [torch.nan]])
    call = CHANNELS.select(x_BCHW, times_B, Context(scalars=scalars_BS))
    found = CHANNELS.inputs_and_conditions(x_BCHW, times_B, call)
    assert CHANNELS.num_conditions == len(condition_names(("viscosity",))) == found.shape[1] - 3
    assert_close(found[:, :3], x_BCHW, rtol=0, atol=0)
    expected = encode_conditions(times_B, scalars_BS, ("viscosity",))[:, :, None, None].expand(-1, -1, 4, 5)
    assert_close(found[:, 3:], expected, rtol=0, atol=0)


def test_persistence_is_the_input_of_the_same_variable_or_zero(x_BCHW: Tensor) -> None:
    call = CHANNELS.select(x_BCHW, torch.zeros(2), ALL_VARIABLES)
    found = CHANNELS.persistence(x_BCHW, call)
    assert_close(found, torch.stack([x_BCHW[:, 1], torch.zeros(2, 4, 5), x_BCHW[:, 0]], 1), rtol=0, atol=0)


def test_persistence_of_what_a_call_does_not_ask_for_is_zero(x_BCHW: Tensor) -> None:
    call = CHANNELS.select(x_BCHW, torch.zeros(2), Context(outputs=(2,)))
    found = CHANNELS.persistence(x_BCHW, call)
    assert_close(found[:, 2], x_BCHW[:, 0], rtol=0, atol=0)
    assert found[:, :2].abs().max() == 0


def test_persistence_is_nan_only_where_its_own_input_is(x_BCHW: Tensor) -> None:
    x_BCHW[:, 0] = torch.nan
    call = CHANNELS.select(x_BCHW, torch.zeros(2), ALL_VARIABLES)
    assert CHANNELS.persistence(x_BCHW, call).isnan().any((0, 2, 3)).tolist() == [False, False, True]


def test_requested_outputs_are_in_the_order_of_the_call(x_BCHW: Tensor) -> None:
    call = CHANNELS.select(x_BCHW, torch.zeros(2), Context(outputs=(2, 0)))
    assert_close(CHANNELS.requested_outputs(x_BCHW, call), x_BCHW[:, [2, 0]], rtol=0, atol=0)
