"""What training costs beside the network's arithmetic; `make bench-training` prints the table.

The demo's network on random fields of its size, a global batch of 16 in micro-batches of 8, float32 on
the CPU, one thread a process. Alternatives are timed in turn within the same processes, so that what
else the machine does meets all alike; both the clock's time and the processor's are given.
"""

import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import DTensor

from benchmarks.harness import Call, Timings, heading, interleave, line, load
from pelagos.models.context import Context, Signature
from pelagos.models.networks.scot.scot import ScOTConfig
from pelagos.pipeline.cluster.launch import process_environments
from pelagos.pipeline.engine import distributed
from pelagos.pipeline.engine.checkpoint_writer import CheckpointWriter
from pelagos.pipeline.engine.ema import WeightAverage
from pelagos.pipeline.engine.engine import EngineConfig
from pelagos.pipeline.runs.configuration import apply_overrides, find_config, read_yaml, validate
from pelagos.pipeline.stages.pretrain import PretrainStage, run
from pelagos.pipeline.training.optimizer import OptimizerConfig
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.online.simulation import SimulateConfig, simulate
from pelagos.preprocessing.sources.formats import well_writer

ROUNDS, LARGE_ROUNDS = 12, 4
CHANNELS = ("velocity_x", "velocity_y", "density", "pressure")


@dataclass(frozen=True)
class Case:
    """A network of scOT's kind, on fields of so many points a side, and the micro-batches of a step."""

    network: ScOTConfig
    size: int
    micro_batch: int
    blocks: int = 2


def demo_stage() -> dict[str, Any]:
    """The demo's pretraining."""
    return {**read_yaml(find_config("demo"))["stages"]["pretrain"], "seed": 0}


DEMO = Case(ScOTConfig.model_validate(demo_stage()["network"]), size=64, micro_batch=8)
LARGE = Case(ScOTConfig(), size=128, micro_batch=4)
"""Poseidon-T's sizes: seventeen times the demo's weights."""


def make_network(case: Case) -> nn.Module:
    """With the same weights in all processes."""
    torch.manual_seed(0)
    return case.network.build(Signature(CHANNELS, CHANNELS, (), (case.size, case.size)))


def make_losses(case: Case, world: int) -> list[Callable[[nn.Module], Tensor]]:
    """Losses of a process's micro-batches."""
    context = Context(inputs=(0, 1, 2, 3), outputs=(0, 1, 2, 3), residual=(0, 1, 2, 3), periodic=(True, True))
    x_BCHW, y_BCHW = torch.randn(2, case.micro_batch, 4, case.size, case.size)
    lead_time_B = torch.rand(case.micro_batch) + 0.1
    return [lambda network: (network(x_BCHW, lead_time_B, context) - y_BCHW).square().mean()] * (
        case.blocks // world
    )


def sum_gradients(parameters: list[nn.Parameter]) -> None:
    """Replace gradients by their mean over processes, summed as one vector."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    assert len(gradients) == len(parameters), "a parameter without a gradient"
    flat = torch.cat([gradient.view(-1) for gradient in gradients])
    torch.distributed.all_reduce(flat)
    flat /= distributed.world()
    pieces = flat.split([parameter.numel() for parameter in parameters])
    for parameter, piece in zip(parameters, pieces, strict=True):
        parameter.grad = piece.view_as(parameter)


def bare_step(case: Case = DEMO, *, alone: bool) -> Call:
    """A step as one writes it down with torch: all of the work here, or a process's share of it."""
    network = make_network(case)
    optimizer = OptimizerConfig().build(network)
    parameters = list(network.parameters())
    world = 1 if alone else distributed.world()
    losses = make_losses(case, world)

    def step() -> object:
        for loss in losses:
            (loss(network) / len(losses)).backward()
        if world > 1:
            sum_gradients(parameters)
        norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(norm)

    return step


def sharded_step(zero_stage: int, case: Case = DEMO) -> Call:
    """A step that shards what a ZeRO stage does, as one writes it down with torch's own means."""
    network = make_network(case)
    if zero_stage > 1:
        _shard(network, layers=zero_stage == 3)
    optimizer: torch.optim.Optimizer = OptimizerConfig().build(network)
    if zero_stage == 1:
        groups, options = optimizer.param_groups, {"fused": True, "parameters_as_bucket_view": True}
        optimizer = ZeroRedundancyOptimizer(groups, optimizer_class=torch.optim.AdamW, **options)
    parameters, losses = list(network.parameters()), make_losses(case, distributed.world())

    def step() -> object:
        for loss in losses:
            (loss(network) / len(losses)).backward()
        if zero_stage == 1:
            sum_gradients(parameters)
        norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)

    return step


def _shard(network: nn.Module, *, layers: bool) -> None:
    """Shard the weights between steps, and those of layers whenever they are not used."""
    mesh = init_device_mesh("cpu", (distributed.world(),))
    lists = [module for module in network.modules() if layers and isinstance(module, nn.ModuleList)]
    for layer in [layer for modules in reversed(lists) for layer in modules]:
        if not isinstance(layer, nn.ModuleList | FSDPModule) and list(layer.parameters()):
            fully_shard(layer, mesh=mesh)
    fully_shard(network, mesh=mesh, reshard_after_forward=False)
    for module in network.modules():
        if isinstance(module, FSDPModule):
            module.set_force_sum_reduction_for_comms(True)  # gloo takes no means


def engine_step(zero_stage: int, case: Case = DEMO) -> Call:
    """The same step by the engine."""
    network = make_network(case)
    optimizer = OptimizerConfig().build(network)
    losses = make_losses(case, distributed.world())
    engine = EngineConfig(zero_stage=zero_stage).build(network, optimizer, case.micro_batch, len(losses))
    return lambda: engine.step(losses, lambda group: group["peak"])


def measure_steps() -> Timings:
    """Steps of a bare loop and of the engine, and with several processes one that works alone."""
    if distributed.world() == 1:
        return interleave({"bare": bare_step(alone=True), "engine": engine_step(1)}, ROUNDS)
    # The process that works alone must not wait for the other's processor: the other does nothing meanwhile.
    alone = bare_step(alone=True) if distributed.rank() == 0 else (lambda: None)
    steps: dict[str, Call] = {"alone": alone, "bare": bare_step(alone=False)}
    steps |= {f"engine{stage}": engine_step(stage) for stage in range(4)}
    steps |= {f"torch{stage}": sharded_step(stage) for stage in (1, 2, 3)}
    return interleave(steps, ROUNDS, before=distributed.barrier)


def measure_large() -> Timings:
    """Steps of a larger network on all processes."""
    steps: dict[str, Call] = {"bare": bare_step(LARGE, alone=False)}
    steps |= {f"engine{stage}": engine_step(stage, LARGE) for stage in (1, 2, 3)}
    steps |= {f"torch{stage}": sharded_step(stage, LARGE) for stage in (1, 2, 3)}
    return interleave(steps, LARGE_ROUNDS, warm_up=1, before=distributed.barrier)


def allocated() -> int:
    """Bytes of all tensors that are alive."""
    gc.collect()
    storages = {}
    for thing in gc.get_objects():
        # Of other things not even the class may be asked for: some warn.
        if issubclass(type(thing), Tensor) and thing.device.type == "cpu":
            storage = thing.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
            if thing.is_leaf and thing.grad is not None:
                storage = thing.grad.untyped_storage()
                storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def measure_memory(zero_stage: int) -> dict[str, float]:
    """Bytes of tensors after a step [MiB], for a running mean too, and of the weights alone."""
    before = allocated()
    network = make_network(DEMO)
    weights = sum(parameter.numel() * 4 for parameter in network.parameters())
    optimizer = OptimizerConfig().build(network)
    losses = make_losses(DEMO, distributed.world())
    fields = allocated() - before - weights
    engine = EngineConfig(zero_stage=zero_stage).build(network, optimizer, DEMO.micro_batch, len(losses))
    average = WeightAverage(engine, 0.99)
    engine.step(losses, lambda group: group["peak"])
    average.update(1)
    del network
    return {"weights": weights / 2**20, "total": (allocated() - before - fields) / 2**20}


def measure_saves(folder: Path) -> dict[str, list[float]]:
    """Seconds of a step, of what a checkpoint keeps it waiting, and of writing it."""
    network = make_network(DEMO)
    optimizer = OptimizerConfig().build(network)
    losses = make_losses(DEMO, distributed.world())
    engine = EngineConfig().build(network, optimizer, DEMO.micro_batch, len(losses))
    average, writer = WeightAverage(engine, 0.99), CheckpointWriter(folder, keep=2)
    found: dict[str, list[float]] = {"step": [], "stall": [], "write": []}
    for turn in range(ROUNDS):
        begun = time.perf_counter()
        engine.step(losses, lambda group: group["peak"])
        found["step"].append(time.perf_counter() - begun)
        distributed.barrier()
        begun = time.perf_counter()
        shares = {**engine.shares(), "average": {"": average.share()}}
        writer.save(turn, engine.saved(shares, {"weights": engine.others()}, copied=True), {})
        found["stall"].append(time.perf_counter() - begun)
        writer.wait()
        found["write"].append(time.perf_counter() - begun)
    return found


def measure_loading(folder: Path) -> float:
    """The share of a pretraining run's time in which it waits for samples."""
    stage = demo_stage()
    overrides = [f"output={folder / 'run'}", "loop.steps=30", "loop.validate_every=0", "threads=1"]
    stage |= {"data": [{"path": str(folder / "store"), "time_scale": 0.3}]}
    stage |= {"tracking": {"uri": f"sqlite:///{folder}/mlflow.db"}}
    found = validate(apply_overrides(stage, overrides), PretrainStage, "demo")
    if distributed.rank() == 0:
        found.tracking.client()  # imports half a second of MLflow, which a run does beside its first steps
    run(found)
    if distributed.rank() != 0:
        return 0.0
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    return float([record for record in map(json.loads, lines) if "loader_wait" in record][-1]["loader_wait"])


def make_store(folder: Path) -> None:
    """Some trajectories of two-dimensional turbulence in the demo's size."""
    config = SimulateConfig(
        equation={"kind": "navier_stokes"}, num_trajectories=10, num_frames=8, interval=0.04
    )
    well_writer.write(simulate(config), folder / "flow.hdf5")
    values = {
        "dataset": "flow",
        "source": {"kind": "the_well", "paths": str(folder / "flow.hdf5")},
        "root": str(folder / "stores"),
        "splits": {"kind": "trajectories", "valid": 2},
    }
    (folder / "store").symlink_to(build(BuildConfig.model_validate(values)))


def work(folder: Path) -> None:
    """What each process does; rank 0 leaves the results in the folder."""
    torch.set_num_threads(1)
    distributed.start()
    results: dict[str, Any] = {
        "steps": asdict(measure_steps()),
        "saves": measure_saves(folder / "checkpoints"),
    }
    if distributed.world() > 1:
        results["large"] = asdict(measure_large())
    results["memory"] = {stage: measure_memory(stage) for stage in range(4)}
    results["loader_wait"] = measure_loading(folder)
    if distributed.rank() == 0:
        (folder / "results.json").write_text(json.dumps(results))
    distributed.barrier()
    distributed.stop()


def measure(processes: int) -> dict[str, Any]:
    """The results with so many processes."""
    with tempfile.TemporaryDirectory(prefix="pelagos-bench-") as name:
        folder = Path(name)
        make_store(folder)
        command = [sys.executable, "-m", "benchmarks.training", str(folder)]
        children = [
            subprocess.Popen(command, env=environment) for environment in process_environments(processes)
        ]
        codes = [child.wait() for child in children]
        if any(codes):
            raise SystemExit(f"a measurement with {processes} processes failed")
        return dict(json.loads((folder / "results.json").read_text()))


def main() -> None:
    """Print the tables."""
    one, two = measure(1), measure(2)
    alone, pair = Timings(**one["steps"]), Timings(**two["steps"])
    print(load(), "\n")
    print(heading(("", "bar", "clock", "processor")))

    def row(name: str, bar: str, timings: Timings, slow: str, fast: str, scale: float = 1.0) -> None:
        ratios = (timings.clock_ratio(slow, fast), timings.ratio(slow, fast))
        print(line((name, bar, *(f"{scale * ratio.median:.3f}" for ratio in ratios))))

    row("engine / bare loop, 1 process", "< 1.10", alone, "engine", "bare")
    for stage in range(4):
        row(f"engine / bare loop, 2 processes, ZeRO {stage}", "< 1.10", pair, f"engine{stage}", "bare")
    large = Timings(**two["large"])
    for stage in (1, 2, 3):
        row(f"the same, Poseidon-T, ZeRO {stage}", "< 1.10", large, f"engine{stage}", "bare")
    for name, timings in (("the demo's network", pair), ("Poseidon-T", large)):
        for stage in (1, 2, 3):
            what = f"engine / torch's own sharding, {name}, ZeRO {stage}"
            row(what, "< 1.10", timings, f"engine{stage}", f"torch{stage}")
    row("efficiency of 2 processes, ZeRO 1 (bare loop alone / 2 engine)", "", pair, "alone", "engine1", 0.5)
    for processes, found in ((1, one), (2, two)):
        waits = f"{found['loader_wait']:.4f}"
        print(line((f"loader wait / run, {processes} process(es)", "< 0.02", waits, "")))
        step, stall, write = (statistics.median(found["saves"][key]) for key in ("step", "stall", "write"))
        print(line((f"checkpoint's stall / step, {processes} process(es)", "< 1", f"{stall / step:.3f}", "")))
        print(line((f"checkpoint's writing / step, {processes} process(es)", "", f"{write / step:.3f}", "")))
    print(f"\n{heading(('model states a process, 2 processes', 'MiB', 'times the weights'))}")
    for stage, memory in two["memory"].items():
        times = memory["total"] / memory["weights"]
        print(line((f"ZeRO {stage}", f"{memory['total']:.1f}", f"{times:.2f}")))


if __name__ == "__main__":
    work(Path(sys.argv[1])) if len(sys.argv) > 1 else main()
