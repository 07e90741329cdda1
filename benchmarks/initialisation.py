"""What the Pelagos preset gains over Poseidon's on the demo's mixture at equal steps: `make bench-initialisation`.

The stores, the loss and the optimiser are those of the demo's pretraining, which must have run before.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import yaml

from benchmarks.harness import heading, line
from pelagos.pipeline.cluster.launch import run_processes

VARIANTS: dict[str, dict[str, Any]] = {
    "Poseidon's preset": {"preset": "poseidon"},
    "Pelagos": {"preset": "pelagos"},
    "Pelagos, position_bias_dim 128": {"preset": "pelagos", "position_bias_dim": 128},
}


def held_out_losses(
    demo: Path, network: dict[str, Any], seed: int, steps: int, batch: int
) -> dict[str, float]:
    """Train, and give the loss on each dataset's validation split at the end."""
    config = yaml.safe_load((demo / "pretrain" / "config.yaml").read_text())
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        config |= {"output": str(root / "run"), "seed": seed}
        config["network"] |= network
        config["loop"] |= {"steps": steps, "batch_size": batch, "micro_batch": batch}
        config["loop"] |= {"validate_every": steps, "checkpoint_every": steps}
        config["tracking"]["uri"] = f"sqlite:///{root}/mlflow.db"
        for data in config["data"]:
            data["path"] = str(demo.resolve() / Path(*Path(data["path"]).parts[-3:]))
        file = root / "config.yaml"
        file.write_text(yaml.safe_dump(config))
        run_processes(["pretrain", str(file)], processes=1)
        lines = (root / "run" / "metrics.jsonl").read_text().splitlines()
    last = {name: value for line in lines for name, value in json.loads(line).items()}
    return {name.removeprefix("valid/"): last[name] for name in last if name.startswith("valid/")}


def main() -> None:
    """Print the table: means over seeds, and in brackets the extremes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", type=Path, default=Path("runs/demo/seed-0"))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    rows = []
    for title, network in VARIANTS.items():
        runs = [
            held_out_losses(options.demo, network, seed, options.steps, options.batch)
            for seed in range(options.seeds)
        ]
        datasets = list(runs[0])
        losses = [[one[name] for one in runs] for name in datasets]
        losses.append([statistics.mean(one.values()) for one in runs])
        rows.append((title, *(f"{statistics.mean(x):.3f} ({min(x):.3f}-{max(x):.3f})" for x in losses)))
        print(rows[-1], flush=True)
    print(f"\n{options.steps} steps of {options.batch} samples, {options.seeds} seeds\n")
    print(heading(("network", *datasets, "mean")))
    for row in rows:
        print(line(row))


if __name__ == "__main__":
    main()
