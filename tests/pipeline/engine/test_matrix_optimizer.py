"""Matrices in the engine go as torch's Muon moves them, all else as AdamW does, from checkpoints, too."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest
import torch
from torch import Tensor, nn

from pelagos.models.layers.precision import Linear
from pelagos.pipeline.engine import checkpoint, checkpoint_writer, distributed
from pelagos.pipeline.engine.engine import Engine, EngineConfig
from pelagos.pipeline.engine.matrix_optimizer import MatrixOptimizer
from pelagos.pipeline.training.optimizer import OptimizerConfig
from pelagos.preprocessing.errors import ConfigError

STEPS, HALF, SAMPLES = 6, 3, 8
MUON = OptimizerConfig(matrices="muon", momentum=0.9, lr=2e-2, weight_decay=0.1)


def network_of() -> nn.Sequential:
    """Two matrices whose slices of a vector are padded, between biases and gains."""
    torch.manual_seed(0)
    return nn.Sequential(Linear(5, 7), nn.LayerNorm(7), Linear(7, 3))


def loss_of(network: nn.Module, x: Tensor) -> Tensor:
    """The squared error of a function of 5 values."""
    loss: Tensor = (network(x) - x[:, :3].sin()).square().mean()
    return loss


def samples(step: int) -> Tensor:
    return torch.randn(SAMPLES, 5, generator=torch.Generator().manual_seed(step))


def factor(step: int) -> float:
    return 1 - step / STEPS


def rate(group: dict[str, Any], step: int) -> float:
    return float(group["peak"]) * factor(step)


def engine_of(**engine: Any) -> Engine:
    network = network_of()
    optimizer = MUON.build(network)
    return EngineConfig.model_validate({"zero_stage": 0, **engine}).build(network, optimizer, 1, 1)


def train(engine: Engine, start: int, stop: int) -> list[float]:
    """The mean losses over all processes."""
    found, (world, rank) = [], (distributed.world(), distributed.rank())
    for step in range(start, stop):
        mine = samples(step).chunk(world)[rank]
        info = engine.step([partial(loss_of, x=mine)], partial(rate, step=step))
        found.append(distributed.all_sum([info.loss / world])[0])
    return found


def program(folder: str) -> None:
    """Each run of so many processes, kept under their number and its name."""
    distributed.start()
    peers, world = checkpoint_writer.Peers(), distributed.world()
    found = {}
    runs: dict[str, tuple[dict[str, Any], int]] = {
        "whole": ({}, 0),
        "head": ({}, 0),
        "tail": ({}, HALF),
        "clipped": ({"clip": 0.01}, 0),
        "low": ({"precision": "bf16", "weights": "bfloat16"}, 0),
    }
    for name in runs if world == 1 else ("whole", "tail"):
        options, start = runs[name]
        engine = engine_of(**{"clip": 0, **options})
        if start:
            # Of one process, whatever their number is now.
            engine.load(checkpoint.saved_tensors(checkpoint.path_of(Path(folder, "1-head"), start))[0], start)
        stop = HALF if name == "head" else STEPS
        found[name] = train(engine, start, stop)
        share = engine.saved(engine.shares(), {"weights": engine.others()}, copied=False)
        checkpoint_writer.save(Path(folder, f"{world}-{name}"), stop, share, {}, peers)
    if distributed.rank() == 0:
        Path(folder, f"{world}.json").write_text(json.dumps(found))
    distributed.stop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of one process, and of two."""
    path = tmp_path_factory.mktemp("matrices")
    for count in (1, 2):
        processes.run(Path(__file__), "program", count, {"folder": str(path)})
    return path


def losses(folder: Path, world: int, name: str) -> list[float]:
    found: list[float] = json.loads((folder / f"{world}.json").read_text())[name]
    return found


def state(folder: Path, world: int, name: str) -> dict[str, dict[str, Tensor]]:
    stop = HALF if name == "head" else STEPS
    return checkpoint.load(checkpoint.path_of(folder / f"{world}-{name}", stop))[0]


def padded(vector: Tensor) -> Tensor:
    """With zeros up to a multiple of 16 values."""
    return nn.functional.pad(vector, (0, -len(vector) % 16))


def bare_loop(clip: float) -> tuple[list[float], nn.Module, torch.optim.Muon]:
    """The same training by torch's own optimisers."""
    torch.set_num_threads(1)  # as each process of the engine: two round products otherwise
    network = network_of()
    matrices = [p for p in network.parameters() if p.ndim == 2]
    others = [p for p in network.parameters() if p.ndim == 1]
    muon = torch.optim.Muon(
        matrices, weight_decay=0.1, momentum=0.9, nesterov=True, adjust_lr_fn="match_rms_adamw"
    )
    # The engine's vectors are padded. Values beyond the last whole register round otherwise in torch's fused step.
    vectors = [nn.Parameter(padded(p.detach())) for p in others]
    adamw = torch.optim.AdamW(vectors, weight_decay=0.0, fused=True)
    found = []
    for step in range(STEPS):
        for optimizer in (muon, adamw):
            optimizer.param_groups[0]["lr"] = 2e-2 * factor(step)
        network.zero_grad()
        loss = loss_of(network, samples(step))
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(network.parameters(), clip)
        for p, vector in zip(others, vectors, strict=True):
            assert p.grad is not None
            vector.grad = padded(p.grad)
        muon.step()
        adamw.step()
        for p, vector in zip(others, vectors, strict=True):
            p.detach().copy_(vector.detach()[: len(p)])
        found.append(loss.item())
    return found, network, muon


@pytest.mark.parametrize(
    ("name", "clip", "error"),
    # The norm of all gradients is added up in another order, and the iteration rounds to the three digits of bf16.
    [("whole", 0.0, 0.0), ("clipped", 0.01, 5e-3)],
)
def test_the_engine_trains_as_a_bare_loop_of_muon_and_adamw(
    folder: Path, name: str, clip: float, error: float
) -> None:
    wanted, network, muon = bare_loop(clip)
    np.testing.assert_allclose(losses(folder, 1, name), wanted, rtol=error)
    found = state(folder, 1, name)
    for key, weight in network.named_parameters():
        torch.testing.assert_close(found["weights"][key], weight.detach(), rtol=error, atol=error / 10)
        if weight.ndim == 2:
            momentum = muon.state[weight]["momentum_buffer"]
            torch.testing.assert_close(
                found["moments"][f"exp_avg.{key}"],
                momentum,
                rtol=error,
                atol=error * clip,
            )
            assert not found["moments"][f"exp_avg_sq.{key}"].any()
        else:
            assert found["moments"][f"exp_avg_sq.{key}"].all()


def test_a_run_goes_on_from_its_checkpoint_to_the_last_bit(folder: Path) -> None:
    assert losses(folder, 1, "head") + losses(folder, 1, "tail") == losses(folder, 1, "whole")
    again, whole = state(folder, 1, "tail"), state(folder, 1, "whole")
    for group, tensors in whole.items():
        assert all(torch.equal(again[group][name], tensor) for name, tensor in tensors.items())


def test_two_processes_train_like_one_and_go_on_from_its_checkpoint(folder: Path) -> None:
    # The iteration in bf16 rounds sums over processes, which come in another order, to three digits.
    np.testing.assert_allclose(losses(folder, 2, "whole"), losses(folder, 1, "whole"), rtol=5e-3)
    np.testing.assert_allclose(losses(folder, 2, "tail"), losses(folder, 1, "tail"), rtol=5e-3)


def test_bf16_weights_have_a_master_that_muon_moves(folder: Path) -> None:
    np.testing.assert_allclose(losses(folder, 1, "low"), losses(folder, 1, "whole"), rtol=0.05)
    weight = state(folder, 1, "low")["weights"]["0.weight"]
    assert weight.dtype == torch.float32
    assert not torch.equal(weight, weight.bfloat16().float())


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_stages_that_would_cut_matrices_are_refused(stage: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world", lambda: 2)
    with pytest.raises(ConfigError, match=rf"zero_stage: {stage} cuts .* 2 processes.* take zero_stage: 0"):
        engine_of(zero_stage=stage)


def test_outside_the_engine_it_takes_no_step() -> None:
    optimizer = MUON.build(network_of())
    assert isinstance(optimizer, MatrixOptimizer)
    with pytest.raises(AssertionError, match="the engine links the matrices"):
        optimizer.step()
