"""Compiled networks train as others do, and leave the same checkpoints; TF32 is a switch."""

import json
from pathlib import Path
from typing import Any

import processes
import pytest
import torch
from torch import nn
from torch._inductor import cpp_builder
from torch._inductor.exc import InvalidCxxCompiler
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from pelagos.pipeline.engine import checkpoint as checkpoints
from pelagos.pipeline.engine import checkpoint_writer, distributed
from pelagos.pipeline.engine.compilation import allow_tf32
from pelagos.pipeline.engine.ema import WeightAverage
from pelagos.pipeline.engine.engine import EngineConfig
from pelagos.preprocessing.errors import ConfigError


class Repeating(nn.Module):
    """Two blocks that are recomputed in the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(3, 3) for _ in range(2))

    def forward(self, x_BC: torch.Tensor) -> torch.Tensor:
        """(B, 3) to the same shape."""
        for block in self.blocks:
            x_BC = x_BC + torch.tanh(checkpoint(block, x_BC, use_reentrant=False))
        return x_BC


def program(runs: list[dict[str, Any]]) -> None:
    """What each process does: one run after the other."""
    distributed.start()
    # The same graphs without a C++ compiler, which takes a hundred times as long; models/contracts.py has it.
    compile_module = nn.Module.compile
    nn.Module.compile = lambda module, **options: compile_module(  # type: ignore[method-assign]
        module, dynamic=options["dynamic"], backend="eager"
    )
    peers = checkpoint_writer.Peers()
    for arguments in runs:
        train(**arguments, peers=peers)
    distributed.stop()


def train(
    folder: str,
    name: str,
    start: int,
    stop: int,
    *,
    after: str = "",
    peers: checkpoint_writer.Peers,
    **engine: Any,
) -> None:
    """Steps start to stop of a tiny network, after the state of another run; keeps losses, graphs and state by name."""
    torch.manual_seed(0)
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    network = Repeating()
    optimizer = torch.optim.AdamW([{"params": network.parameters(), "peak": 1e-2}], lr=1e-2)
    config, world, rank = EngineConfig(**engine), distributed.world(), distributed.rank()
    trained = config.build(network, optimizer, 1, 2)
    average = WeightAverage(trained, 0.5)
    if start:
        saved = checkpoints.saved_tensors(checkpoints.path_of(Path(folder, after), start))[0]
        trained.load(saved, start)
        average.load(saved)
    losses = []
    for step in range(start, stop):
        x = torch.randn(2 * world, 3, generator=torch.Generator().manual_seed(step))
        tasks = [
            lambda net, part=part: (net(part) - part.sin()).square().mean()
            for part in x.split(1)[rank::world]
        ]
        losses.append(distributed.all_sum([trained.step(tasks, lambda group: group["peak"]).loss])[0])
        average.update(step)
    with average.network() as averaged, torch.no_grad():
        losses.append(float(averaged(torch.ones(1, 3)).sum()))
    if rank == 0:
        graphs = torch._dynamo.utils.counters["stats"].get("unique_graphs", 0)
        Path(folder, f"{name}.json").write_text(json.dumps([losses, graphs]))
    shares = {**trained.shares(), "average": {"": average.share()}}
    share = trained.saved(shares, {"weights": trained.others()}, copied=False)
    checkpoint_writer.save(Path(folder, name), stop, share, {}, peers)
    distributed.barrier()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two processes."""
    path = tmp_path_factory.mktemp("compiled")

    def run(name: str, start: int, stop: int, **more: object) -> dict[str, Any]:
        return {"folder": str(path), "name": name, "start": start, "stop": stop, **more}

    runs = [run("off", 0, 4), run("network", 0, 4, compile="network")]
    runs += [run(f"blocks{stage}", 0, 4, compile="blocks", zero_stage=stage) for stage in (0, 1, 2)]
    runs += [run("head", 0, 2, compile="blocks"), run("tail", 2, 4, after="head")]
    processes.run(Path(__file__), "program", 2, {"runs": runs})
    return path


def found(folder: Path, name: str) -> tuple[list[float], int]:
    """Losses, the sum of outputs with averaged weights, and the number of compiled graphs."""
    losses, graphs = json.loads((folder / f"{name}.json").read_text())
    return losses, graphs


@pytest.mark.parametrize("name", ["network", "blocks0", "blocks1", "blocks2"])
def test_compiled_networks_train_alike(folder: Path, name: str) -> None:
    losses, graphs = found(folder, name)
    assert 0 < graphs <= 4  # once for each block, forward and recomputed: later micro-batches compile nothing
    assert_close(losses, found(folder, "off")[0], rtol=1e-5, atol=1e-6)  # float32


def test_a_compiled_run_goes_on_without_a_compiler(folder: Path) -> None:
    assert found(folder, "head")[1] > found(folder, "tail")[1] == 0
    assert_close(found(folder, "tail")[0], found(folder, "off")[0][2:], rtol=1e-5, atol=1e-6)


def test_what_cannot_be_compiled_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(network: nn.Module, **engine: Any) -> None:
        EngineConfig(**engine).build(network, torch.optim.AdamW(network.parameters()), 1, 1)

    with pytest.raises(ConfigError, match="a Linear has no blocks in lists of modules; take network, or off"):
        build(nn.Linear(1, 1), compile="blocks")

    def none_found() -> str:
        raise InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", none_found)
    with pytest.raises(
        ConfigError, match=r"needs a C\+\+ compiler on the CPU, and found none: install g\+\+"
    ):
        build(nn.Linear(1, 1), compile="network")
    monkeypatch.setattr(distributed, "world", lambda: 2)
    with pytest.raises(ConfigError, match=r"engine\.compile is for ZeRO 0 to 2"):
        build(nn.Linear(1, 1), compile="network", zero_stage=3)


def test_tf32_is_a_switch_that_gpus_alone_hear(monkeypatch: pytest.MonkeyPatch) -> None:
    assert EngineConfig().remarks() == []
    monkeypatch.setattr(distributed, "has_gpu", lambda: True)
    assert "10 bits (engine.tf32)" in EngineConfig().remarks()[0]
    assert "is exact" in EngineConfig(tf32=False).remarks()[0]
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        for allowed in (True, False):
            allow_tf32(allowed)
            assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == (
                allowed,
                allowed,
            )
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
