"""Whether our baselines learn as well as those of their authors: `make bench-baselines`.

Both sides see the same samples in the same order, normalised alike, with the same optimiser, schedule and steps; the
learning rate of each is the best of several at the first seed. The score is the median relative L1 error of one step
on held-out samples in physical units. Steps are timed in turn in one process. What is done is kept in a file of
results, so that the command goes on where it stopped.
"""

import argparse
import json
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.baseline_data import TASKS, Task
from benchmarks.harness import Timings, heading, interleave, line, spread
from pelagos.models.context import Context, Signature
from pelagos.models.layers.spectral_conv import SpectralConv
from pelagos.models.networks.fourier.compat import ReferenceSFNO
from pelagos.models.networks.fourier.fno import FNOConfig
from pelagos.models.networks.fourier.sfno import SFNOConfig
from pelagos.models.networks.unet import UNetConfig

Build = Callable[[Task], nn.Module]
BATCH = 16


class Ours(nn.Module):
    """One of our networks at a single lead time, told which axes of the task wrap."""

    def __init__(self, task: Task, config: FNOConfig | UNetConfig | SFNOConfig) -> None:
        super().__init__()
        inputs = tuple(f"field{n}" for n in range(task.inputs.shape[1]))
        outputs = inputs[: task.targets.shape[1]] if task.evolves else ("solution",)
        self.network = config.build(Signature(inputs, outputs))
        self.context = Context(periodic=task.periodic)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H, W)."""
        out_BCHW: Tensor = self.network(x_BCHW, x_BCHW.new_ones(len(x_BCHW)), self.context)
        return out_BCHW


def fno(task: Task) -> nn.Module:
    """Our FNO, of as many modes as the peer."""
    return Ours(task, FNOConfig(width=32, modes=task.modes, num_layers=4))


def unet(task: Task) -> nn.Module:
    """Our U-Net, on three grids."""
    return Ours(task, UNetConfig(dims=(32, 64, 128), depth=2))


def peer_fno(task: Task) -> nn.Module:
    """The FNO of neuraloperator with its defaults; its modes count both signs."""
    from neuralop.models import FNO

    rows, columns = task.modes
    return FNO(  # type: ignore[no-any-return]
        n_modes=(2 * rows, 2 * columns),
        in_channels=task.inputs.shape[1],
        out_channels=task.targets.shape[1],
        hidden_channels=32,
    )


def peer_unet(task: Task) -> nn.Module:
    """The ConvNeXt U-Net of the_well, as wide and as deep."""
    from the_well.benchmark.models import UNetConvNext

    return UNetConvNext(  # type: ignore[no-any-return]
        dim_in=task.inputs.shape[1],
        dim_out=task.targets.shape[1],
        n_spatial_dims=2,
        spatial_resolution=tuple(task.inputs.shape[-2:]),
        stages=3,
        blocks_per_stage=2,
        blocks_at_neck=2,
        init_features=32,
    )


SFNO_SIZES: dict[str, Any] = {"width": 8, "latent_steps": 6, "activation": "GELU"}


def sfno(task: Task) -> nn.Module:
    """Our form of the spatiotemporal operator."""
    return Ours(task, SFNOConfig(modes=(*task.modes, 4), **SFNO_SIZES))


class PeerSFNO(nn.Module):
    """The Spectral-Refiner's operator in the form of its authors, from one frame to the next.

    Their code is in no package: this is our copy of it, which the tests hold to its outputs, with the initial weights
    that it has.
    """

    def __init__(self, task: Task) -> None:
        super().__init__()
        rows, columns = task.modes
        self.network = ReferenceSFNO({"modes_x": rows, "modes_y": columns, "modes_t": 4, **SFNO_SIZES})
        for layer in self.network.modules():
            if isinstance(layer, SpectralConv):
                for weight in layer.weight:
                    nn.init.uniform_(weight, 0, 0.5 / (weight.shape[0] * weight.shape[1]))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, 1, H, W) to the same shape."""
        out_BHWT: Tensor = self.network(x_BCHW[:, 0, ..., None], out_steps=1)
        return out_BHWT[..., 0][:, None]


PAIRS: dict[str, tuple[Build, Build]] = {
    "fno": (fno, peer_fno),
    "unet": (unet, peer_unet),
    "sfno": (sfno, PeerSFNO),
}


@dataclass(frozen=True)
class Training:
    """How a network is trained: AdamW, a short warm-up, a cosine to zero, the relative L1 loss of each sample."""

    steps: int
    rate: float
    seed: int

    def error(self, build: Build, task: Task) -> float:
        """The median relative L1 error on the held-out samples, after training."""
        torch.manual_seed(self.seed)
        network = build(task)
        optimizer = torch.optim.AdamW(network.parameters(), lr=self.rate, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._factor)
        order = torch.Generator().manual_seed(self.seed)
        epochs = math.ceil(self.steps * BATCH / task.num_train)
        drawn = torch.cat([torch.randperm(task.num_train, generator=order) for _ in range(epochs)])
        for chosen in drawn.split(BATCH)[: self.steps]:
            train_step(network, optimizer, task.inputs[chosen], task.targets[chosen])
            schedule.step()
        with torch.no_grad():
            held_out = task.inputs[task.num_train :]
            prediction = torch.cat([network(part) for part in held_out.split(BATCH)])
        return task.physical_error(prediction)

    def _factor(self, step: int) -> float:
        return min(1.0, (step + 1) / 30) * 0.5 * (1 + math.cos(math.pi * step / self.steps))


def train_step(network: nn.Module, optimizer: torch.optim.Optimizer, x_BCHW: Tensor, t_BCHW: Tensor) -> None:
    """One step on a batch."""
    optimizer.zero_grad()
    space = (1, 2, 3)
    loss_B = (network(x_BCHW) - t_BCHW).abs().sum(space) / t_BCHW.abs().sum(space)
    loss_B.mean().backward()
    nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimizer.step()


def step_times(ours: Build, peer: Build, task: Task, rounds: int) -> Timings:
    """A training step of both, in turn."""
    calls: dict[str, Callable[[], object]] = {}
    for name, build in (("ours", ours), ("peer", peer)):
        network = build(task)
        optimizer = torch.optim.AdamW(network.parameters())
        calls[name] = partial(train_step, network, optimizer, task.inputs[:BATCH], task.targets[:BATCH])
    return interleave(calls, rounds)


class Results:
    """What has been computed so far, in a JSON file: name -> figure."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.values: dict[str, float] = json.loads(file.read_text()) if file.exists() else {}

    def get(self, name: str, compute: Callable[[], float]) -> float:
        """The figure of that name, computed if need be."""
        if name not in self.values:
            self.values[name] = compute()
            self.file.write_text(json.dumps(self.values, indent=1))
            print(f"{name}: {self.values[name]:.5g}", flush=True)
        return self.values[name]


def errors(results: Results, name: str, build: Build, task: Task, options: argparse.Namespace) -> list[float]:
    """The errors of all seeds at the rate that is best for the first."""

    def error(rate: float, seed: int) -> float:
        training = Training(options.steps, rate, seed)
        return results.get(
            f"{task.name} {name} {options.steps} steps, rate {rate:g}, seed {seed}",
            lambda: training.error(build, task),
        )

    best = min(options.rates, key=lambda rate: error(rate, 0))
    return [error(best, seed) for seed in range(options.seeds)]


def parameters(network: nn.Module) -> int:
    """Real numbers among the weights; a complex one is two."""
    return sum(p.numel() * (2 if p.is_complex() else 1) for p in network.parameters())


def main() -> None:
    """Print the table: medians over seeds, and in brackets the extremes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--networks", nargs="*", default=list(PAIRS))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rates", type=float, nargs="*", default=[1e-3, 3e-3, 6e-3])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--results", type=Path, default=Path("runs/bench-baselines.json"))
    options = parser.parse_args()
    options.results.parent.mkdir(parents=True, exist_ok=True)
    results, rows = Results(options.results), []
    for task in (TASKS[name]() for name in options.tasks):
        for kind in options.networks:
            if kind == "sfno" and task.inputs.shape[1] > 1:
                continue  # the authors' form has one field
            ours, peer = PAIRS[kind]
            found = [
                errors(results, name, b, task, options)
                for name, b in ((f"our {kind}", ours), (f"peer {kind}", peer))
            ]
            ratio = statistics.median(found[0]) / statistics.median(found[1])
            sizes = [f"{parameters(build(task)) / 1e6:.2f}" for build in (ours, peer)]
            time = step_times(ours, peer, task, options.rounds).ratio("ours", "peer")
            cells = map(spread, found)
            rows.append((f"{task.name}, {kind}", *sizes, *cells, f"{ratio:.2f}", str(time)))
    print(f"\n{options.steps} steps of {BATCH} samples, {options.seeds} seeds\n")
    print(
        heading(("task", "our weights, 1e6", "peer's", "our error", "peer's", "ratio", "step, ours / peer"))
    )
    for row in rows:
        print(line(row))


if __name__ == "__main__":
    main()
