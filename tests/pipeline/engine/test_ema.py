"""The moving average of weights is what its recursion says, and lends the network only for a while."""

from pathlib import Path

import torch
from torch import nn

from pelagos.pipeline.engine import checkpoint, checkpoint_writer, distributed
from pelagos.pipeline.engine.ema import WeightAverage
from pelagos.pipeline.engine.engine import Engine, EngineConfig


def engine_of(network: nn.Module) -> Engine:
    distributed.start()
    return EngineConfig().build(network, torch.optim.AdamW(network.parameters(), lr=0.1), 1, 1)


def weight(engine: Engine) -> torch.Tensor:
    return engine.shards.everywhere(engine.partitions)["weight"].clone()


def averaged(average: WeightAverage) -> torch.Tensor:
    with average.network() as network:
        return dict(network.named_parameters())["weight"].detach().clone()


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def train(engine: Engine, average: WeightAverage, steps: int) -> list[torch.Tensor]:
    """The weights after each step."""
    seen = []
    for step in range(1, steps + 1):
        engine.step([lambda net: net(torch.ones(1, 3)).square().sum()], lambda group: 0.1)
        average.update(step)
        seen.append(weight(engine))
    return seen


def test_the_average_follows_its_recursion_with_a_short_memory_at_first() -> None:
    network = linear()
    expected = network.weight.detach().clone()
    engine = engine_of(network)
    average = WeightAverage(engine, 0.3)
    for step, weight in enumerate(train(engine, average, 6), start=1):
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight
    torch.testing.assert_close(averaged(average), expected)


def test_without_decay_it_is_the_weights_themselves() -> None:
    engine = engine_of(linear())
    average = WeightAverage(engine, 0.0)
    last = train(engine, average, 2)[-1]
    assert torch.equal(averaged(average), last)


def test_a_state_comes_back(tmp_path: Path) -> None:
    engine = engine_of(linear())
    average = WeightAverage(engine, 0.9)
    train(engine, average, 3)
    other = WeightAverage(engine_of(linear()), 0.9)
    share = engine.saved({"average": {"": average.share()}}, {}, copied=False)
    checkpoint_writer.save(tmp_path, 3, share, {})
    other.load(checkpoint.saved_tensors(checkpoint.path_of(tmp_path, 3))[0])
    assert torch.equal(averaged(other), averaged(average))


def test_the_network_has_the_average_for_as_long_as_it_is_lent() -> None:
    engine = engine_of(linear())
    average = WeightAverage(engine, 0.9)
    train(engine, average, 3)
    trained, expected = weight(engine), averaged(average)
    with average.network() as network:
        assert not network.training
        lent = dict(network.named_parameters())["weight"]
        assert torch.equal(lent, expected)
        assert not torch.equal(lent, trained)
    assert dict(network.named_parameters())["weight"].numel() == 0
    assert torch.equal(weight(engine), trained)
