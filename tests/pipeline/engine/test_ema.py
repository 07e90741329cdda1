"""The moving average of weights is what its recursion says, and lends the network only for a while."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pelagos.models.networks.credit.spectral_norm import add_spectral_norms, update_spectral_norms
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


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_normalised_layers_are_averaged_by_their_weights_and_keep_the_power_iteration(precision: Any) -> None:
    """Averages of u and v are no singular vectors: with them miles-credit's validation loss grew by 5e4 (issue 394)."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 6))
    add_spectral_norms(network)
    distributed.start()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.02)
    engine = EngineConfig(precision=precision).build(network, optimizer, 1, 1)
    average, rows = WeightAverage(engine, 0.9), torch.randn(16, 6)
    expected = {name: weight.detach().clone() for name, weight in engine.network.named_parameters()}

    def rollout(net: nn.Module) -> torch.Tensor:
        update_spectral_norms(net)
        state, losses = rows, []
        for _ in range(length):
            state = net(state)
            losses.append((state - rows.roll(1, 1)).square().mean())
        return torch.stack(losses).mean()

    for step in range(1, 31):
        length = 1 + step // 10  # as a curriculum goes
        engine.step([rollout], lambda group: 0.02)
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        for name, weight in engine.network.named_parameters():
            if name.endswith("weight_orig"):
                expected[name] = decay * expected[name] + (1 - decay) * weight.detach()
    trained = dict(engine.network.named_buffers())
    with average.network() as lent:
        for name, weight in lent.named_parameters():
            if name.endswith("weight_orig"):
                torch.testing.assert_close(weight, expected[name], rtol=1e-5, atol=1e-6)
        for name, buffer in lent.named_buffers():
            assert torch.equal(buffer, trained[name])
        for layer in (lent[0], lent[2]):  # type: ignore[index]
            assert float(torch.linalg.matrix_norm(layer.weight.detach(), 2)) == pytest.approx(1.0, abs=0.05)
