"""Arguments and weights from outside are checked, and every fault is named."""

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from pelagos.models.foreign_weights import load_state, read_arguments
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError, DataError


class Arguments(Config):
    """Those of an invented reference."""

    width: int
    sizes: tuple[int, ...] = (1, 2)


def state(dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    return {"weight": torch.arange(6.0, dtype=dtype).view(2, 3), "bias": torch.ones(2, dtype=dtype)}


def network() -> nn.Linear:
    with torch.device("meta"):
        return nn.Linear(3, 2)


def test_lists_stand_for_tuples_and_defaults_are_filled_in() -> None:
    assert read_arguments(Arguments, {"width": 4, "sizes": [3]}, "a reference") == Arguments(
        width=4, sizes=(3,)
    )
    assert read_arguments(Arguments, {"width": 4}, "a reference").sizes == (1, 2)


def test_all_faults_of_arguments_are_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"arguments of a reference: .*width.*; heads = 3") as caught:
        read_arguments(Arguments, {"heads": 3}, "a reference")
    assert caught.value.__cause__ is not None


def test_weights_are_copied_into_a_network_without_memory() -> None:
    net, weights = network(), state()
    load_state(net, weights, "a reference")
    assert_close(dict(net.state_dict()), weights, rtol=0, atol=0)
    weights["weight"].zero_()
    assert net.weight.abs().max() > 0


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(torch.float64, torch.float64), (torch.bfloat16, torch.float32), (torch.float16, torch.float32)],
)
def test_float64_stays_and_lower_precision_is_raised(dtype: torch.dtype, expected: torch.dtype) -> None:
    net = network()
    load_state(net, state(dtype), "a reference")
    assert net.weight.dtype == net.bias.dtype == expected


def test_integers_stay_integers() -> None:
    with torch.device("meta"):
        net = nn.BatchNorm1d(2)
    weights = nn.BatchNorm1d(2).half().state_dict()
    load_state(net, weights, "a reference")
    assert net.num_batches_tracked is not None
    assert net.num_batches_tracked.dtype == torch.int64
    assert net.weight.dtype == torch.float32


def test_all_faults_of_weights_are_named_at_once() -> None:
    faulty = {"weight": torch.zeros(3, 2), "gain": torch.ones(1)}
    with pytest.raises(DataError, match="weights of a reference do not fit") as caught:
        load_state(network(), faulty, "a reference")
    message = str(caught.value)
    assert "bias is missing" in message
    assert "gain is unknown" in message
    assert "weight has shape (3, 2) instead of (2, 3)" in message


def test_weights_that_are_not_finite_are_errors() -> None:
    with pytest.raises(DataError, match="bias has values that are not finite"):
        load_state(network(), state() | {"bias": torch.tensor([1.0, torch.inf])}, "a reference")


def test_of_many_faults_the_first_are_named_and_the_rest_counted() -> None:
    faulty = state() | {f"extra_{i}": torch.ones(1) for i in range(20)}
    with pytest.raises(DataError, match=r"extra_7 is unknown; and 12 more$"):
        load_state(network(), faulty, "a reference")
