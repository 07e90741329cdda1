"""The moving average of weights is what its recursion says, and lends the network only for a while."""

import torch
from torch import nn

from pelagos.pipeline.engine import distributed
from pelagos.pipeline.engine.ema import WeightAverage
from pelagos.pipeline.engine.engine import Engine, EngineConfig


def engine_of(network: nn.Module) -> Engine:
    distributed.start()
    return EngineConfig().build(network, torch.optim.AdamW(network.parameters(), lr=0.1), 1, 1)


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def train(engine: Engine, average: WeightAverage, steps: int) -> list[torch.Tensor]:
    """The weights after each step."""
    seen = []
    for step in range(1, steps + 1):
        engine.step([lambda net: net(torch.ones(1, 3)).square().sum()], lambda group: 0.1)
        average.update(step)
        seen.append(engine.weights()["weight"])
    return seen


def test_the_average_follows_its_recursion_with_a_short_memory_at_first() -> None:
    network = linear()
    expected = network.weight.detach().clone()
    engine = engine_of(network)
    average = WeightAverage(engine, 0.3)
    for step, weight in enumerate(train(engine, average, 6), start=1):
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight
    torch.testing.assert_close(average.state()["weight"], expected)


def test_without_decay_it_is_the_weights_themselves() -> None:
    engine = engine_of(linear())
    average = WeightAverage(engine, 0.0)
    last = train(engine, average, 2)[-1]
    assert torch.equal(average.state()["weight"], last)


def test_a_state_comes_back() -> None:
    engine = engine_of(linear())
    average = WeightAverage(engine, 0.9)
    train(engine, average, 3)
    other = WeightAverage(engine_of(linear()), 0.9)
    other.load(average.state())
    assert torch.equal(other.state()["weight"], average.state()["weight"])


def test_the_network_has_the_average_for_as_long_as_it_is_lent() -> None:
    engine = engine_of(linear())
    average = WeightAverage(engine, 0.9)
    train(engine, average, 3)
    trained = engine.weights()["weight"]
    with average.network() as network:
        assert not network.training
        lent = dict(network.named_parameters())["weight"]
        assert torch.equal(lent, average.state()["weight"])
        assert not torch.equal(lent, trained)
    assert dict(network.named_parameters())["weight"].numel() == 0
    assert torch.equal(engine.weights()["weight"], trained)
