"""What training on a running simulation gains over a fixed set at equal steps and memory: `make bench-online`.

All variants train the same network with the same optimiser for as many steps on decaying turbulence, and are scored on
the same held-out trajectories. Then, how long training waits for producers that keep up and for some that do not.
"""

import argparse
import json
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.harness import heading, line
from pelagos.pipeline.cluster.launch import run_processes
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.online.simulation import SimulateConfig, simulate
from pelagos.preprocessing.sources.formats import well_writer

BATCH, VALID = 16, 16
SIMULATION: dict[str, Any] = {
    "equation": {"kind": "navier_stokes"},
    "shape": [32, 32],
    "num_frames": 11,
    "interval": 0.05,
    "batch": 4,
    "dataset": "turbulence",
}
SAMPLES = {"sampling": {"kind": "pairs", "max_lead": 5}, "time_scale": 0.25}
NETWORK = {"kind": "fno", "width": 24, "modes": [8, 8], "num_layers": 3}


def store(root: Path, seed: int, trajectories: int) -> Path:
    """The first trajectories of the simulation, those held out first of all."""
    values = SIMULATION | {"seed": seed, "num_trajectories": VALID + trajectories}
    archive = root / f"turbulence-{seed}.hdf5"
    well_writer.write(simulate(SimulateConfig.model_validate(values)), archive)
    splits = {"kind": "trajectories", "valid": [0, VALID], "train": [VALID, VALID + trajectories]}
    source = {"kind": "the_well", "paths": str(archive)}
    built = {"dataset": "turbulence", "version": str(seed), "source": source, "root": str(root)}
    return build(BuildConfig.model_validate(built | {"splits": splits}))


def online(seed: int, **options: Any) -> dict[str, Any]:
    """A simulation as data."""
    simulation = SIMULATION | {"seed": seed} | options.pop("simulation", {})
    return {"kind": "online", "simulation": simulation, "valid": VALID, "producers": 1} | SAMPLES | options


def train(root: Path, name: str, data: dict[str, Any], seed: int, steps: int) -> list[dict[str, float]]:
    """What a run has reported."""
    config = {
        "command": "pretrain",
        "output": str(root / name),
        "seed": seed,
        "network": NETWORK,
        "data": [data],
        "loop": {
            "steps": steps,
            "batch_size": BATCH,
            "micro_batch": BATCH,
            "log_every": max(1, steps // 10),
            "validation_samples": 512,
        },
        "loss": {"kind": "mse"},
        "optimizer": {"lr": 2e-3, "weight_decay": 0.01},
        "schedule": {"warmup": 30},
        "tracking": {"uri": f"sqlite:///{root}/mlflow.db"},
        "threads": 1,
    }
    file = root / f"{name}.yaml"
    file.write_text(yaml.safe_dump(config))
    run_processes(["pretrain", str(file)], processes=1)
    return [json.loads(text) for text in (root / name / "metrics.jsonl").read_text().splitlines()]


def error(records: list[dict[str, float]]) -> float:
    """The mean square error on held-out trajectories at the end, in normalised units."""
    return next(r["valid/turbulence"] for r in reversed(records) if "valid/turbulence" in r)


@dataclass(frozen=True)
class Speed:
    """Of a run without its first tenth, in which the reservoir fills.

    Attributes:
        waited: share of the time that training waited for data.
        computed: seconds of a step, without waiting.
        simulated: seconds of the producer for a trajectory.
    """

    waited: float
    computed: float
    simulated: float

    @classmethod
    def of(cls, records: list[dict[str, float]]) -> "Speed":
        """From what a run has reported."""
        first, *_, last = [r for r in records if "loader_wait" in r]
        elapsed = [r["step"] * BATCH / r["samples_per_second"] for r in (first, last)]
        waits = [r["loader_wait"] * t for r, t in zip((first, last), elapsed, strict=True)]
        seconds, waited = elapsed[1] - elapsed[0], waits[1] - waits[0]
        production = [last[f"online/turbulence/{n}"] for n in ("producers_busy", "trajectories_per_second")]
        return cls(
            waited / seconds,
            (seconds - waited) / (last["step"] - first["step"]),
            production[0] / production[1],
        )


def errors(options: argparse.Namespace, seed: int) -> dict[str, float]:
    """Of each variant."""
    num, half = options.memory, options.memory // 2
    everything = options.steps * BATCH // options.uses
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        stored = {"path": str(store(root, seed, everything))} | SAMPLES
        variants = {
            "fixed set": stored | {"num_trajectories": num},
            "stream": online(seed, reservoir=2, ahead=num - 2, uses=options.uses),
            "reservoir": online(seed, reservoir=half, ahead=num - half, uses=options.uses),
            "all of them stored": stored,
        }
        return {
            name: error(train(root, name.replace(" ", "-"), data, seed, options.steps))
            for name, data in variants.items()
        }


def speeds(options: argparse.Namespace) -> dict[tuple[str, int], Speed]:
    """With one producer, and with one that takes time steps many times shorter, by solver and uses."""
    cases: list[tuple[str, dict[str, float], int]] = [("the default", {}, options.uses)]
    slow = {"dt": 2.5e-4}
    cases += [("short steps", slow, uses) for uses in (options.uses // 4, options.uses, 8 * options.uses)]
    found = {}
    for solver, simulation, uses in cases:
        with tempfile.TemporaryDirectory() as folder:
            data = online(0, simulation=simulation, reservoir=options.memory, uses=uses)
            found[solver, uses] = Speed.of(train(Path(folder), "run", data, 0, options.steps // 8))
    return found


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--memory", type=int, default=16, help="trajectories that a variant may hold")
    parser.add_argument("--uses", type=int, default=20, help="samples drawn of a trajectory online")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    rows = []
    for solver, uses in (found := speeds(options)):
        speed = found[solver, uses]
        needed = BATCH / uses * speed.simulated / speed.computed
        rows.append((solver, uses, f"{speed.simulated:.3f}", f"{needed:.2f}", f"{speed.waited:.3f}"))
    print(heading(("solver", "uses", "seconds a trajectory", "producers needed, of 1", "loader wait / run")))
    print("\n".join(map(line, rows)), flush=True)
    runs = [errors(options, seed) for seed in range(options.seeds)]
    print(heading(("data", "held-out error", "/ fixed set", "/ stream")))
    for name in runs[0] if runs else ():
        values = [one[name] for one in runs]
        ratios = [
            f"{statistics.mean(r):.2f} ({min(r):.2f}-{max(r):.2f})"
            for r in ([one[name] / one[other] for one in runs] for other in ("fixed set", "stream"))
        ]
        print(line((name, f"{statistics.mean(values):.4f}", *ratios)))


if __name__ == "__main__":
    main()
