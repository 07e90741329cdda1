"""What choices of a weather model are worth at equal steps: `make bench-weather`.

Shipped configurations, changed in one key each, are trained from several seeds and scored as they ship. What has been
scored is found again, so that the command goes on where it stopped.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.harness import heading, line, spread
from pelagos.pipeline.cluster.launch import run_processes

TASKS = ("wfde5", "era5", "diffusion_reaction")
Changes = dict[str, Any]


def _transformers(patch_size: int) -> dict[str, Changes]:
    """scOT in place of the shipped network, which takes no location; patches by the size of the grid."""
    network = {
        "kind": "scot",
        "embed_dim": 32,
        "depths": [2, 2],
        "num_heads": [2, 4],
        "skip_connections": [1, 0],
        "window_size": 5,
        "patch_size": patch_size,
    }
    return {
        "transformer": {"network": network},
        "transformer, location": {"network": network | {"location_degrees": 10}},
    }


SCALINGS: dict[str, Changes] = {kind: {"scaling": kind} for kind in ("deviation", "increment")}
ROWS: dict[str, dict[str, Changes]] = {
    "wfde5": SCALINGS | _transformers(2),
    "era5": SCALINGS | _transformers(4),
    "diffusion_reaction": SCALINGS,
}
"""Changes of the shipped configuration by task and row."""


@dataclass(frozen=True)
class Scores:
    """Root mean square errors of an evaluation's methods: method -> variable -> by lead time."""

    rmse: Mapping[str, Mapping[str, Sequence[float]]]

    @classmethod
    def read(cls, file: Path) -> "Scores":
        """Those of a `scores.json`."""
        methods = json.loads(file.read_text())["methods"]
        return cls(
            {
                name: {group: values["rmse"] for group, values in one["groups"].items()}
                for name, one in methods.items()
            }
        )

    def at_ends(self, method: str) -> dict[str, float]:
        """By variable at the first lead time, and at the last where there are several."""
        errors = {}
        for variable, curve in self.rmse[method].items():
            errors[variable] = curve[0]
            if len(curve) > 1:
                errors[f"{variable}, step {len(curve)}"] = curve[-1]
        return errors


@dataclass(frozen=True)
class Workshop:
    """Where stores, runs and scores are kept.

    Attributes:
        root: the folder.
        steps: of training; those of the shipped configuration where none are given.
    """

    root: Path
    steps: int | None

    def store(self, task: str, source: str) -> Path:
        """The task's store, built if need be."""
        path = self.root / "stores" / task / f"{task}-1.zarr"
        if not path.is_dir():
            given = [f"source.paths={source}", f"root={self.root / 'stores'}", "workers=1"]
            run_processes(["build", f"build/{task}", *given], processes=1)
        return path

    def scores(self, task: str, row: str, seed: int, store: Path) -> Scores:
        """The scores of a row, from a seed; trained and evaluated if need be."""
        steps = f"-{self.steps}" if self.steps else ""
        run = self.root / "runs" / task / f"{row.replace(', ', '-')}{steps}-seed-{seed}"
        found = run / "evaluation" / "scores.json"
        if not found.is_file():
            trained = [
                f"output={run / 'pretrain'}",
                f"seed={seed}",
                f"data.0.path={store}",
                *self._changes(task, row),
            ]
            run_processes(["pretrain", f"pretrain/{task}", *trained], processes=1)
            model = f"models.pelagos={run / 'pretrain' / 'model'}"
            scored = [model, f"store={store}", f"output={run / 'evaluation'}"]
            run_processes(["evaluate", f"evaluate/{task}", *scored], processes=1)
        return Scores.read(found)

    def _changes(self, task: str, row: str) -> list[str]:
        changes = [
            f"{key}={yaml.safe_dump(value, default_flow_style=True)}"
            for key, value in ROWS[task][row].items()
        ]
        return [*changes, *([f"loop.steps={self.steps}"] if self.steps else [])]


def print_table(task: str, found: Mapping[str, Sequence[Scores]]) -> None:
    """Medians over seeds, and in brackets the extremes; of baselines, which draw nothing, the one figure."""
    rows = [(row, [one.at_ends("pelagos") for one in scores]) for row, scores in found.items()]
    first = next(iter(found.values()))[0]
    rows += [(name, [first.at_ends(name)]) for name in first.rmse if name != "pelagos"]
    columns = list(rows[0][1][0])
    print(f"\n{task}: root mean square errors\n")
    print(heading(("", *columns)))
    for row, errors in rows:
        print(line((row, *(_cell([one[column] for one in errors]) for column in columns))))


def _cell(errors: Sequence[float]) -> str:
    return f"{errors[0]:.4g}" if len(errors) == 1 else spread(errors)


def main() -> None:
    """Print a table for each task whose archive is given."""
    parser = argparse.ArgumentParser(description=__doc__)
    for task in TASKS:
        parser.add_argument(f"--{task}", help="its files, as source.paths of the build")
    parser.add_argument("--rows", nargs="*", default=sorted({row for rows in ROWS.values() for row in rows}))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="of training, instead of those that are shipped")
    parser.add_argument("--folder", type=Path, default=Path("runs/bench-weather"))
    options = parser.parse_args()
    workshop = Workshop(options.folder.resolve(), options.steps)
    given = {task: source for task in TASKS if (source := getattr(options, task)) is not None}
    if not given:
        parser.error(f"give at least one of {', '.join(f'--{task} FILES' for task in TASKS)}")
    for task, source in given.items():
        store = workshop.store(task, source)
        found = {
            row: [workshop.scores(task, row, seed, store) for seed in range(options.seeds)]
            for row in ROWS[task]
            if row in options.rows
        }
        if found:
            print_table(task, found)


if __name__ == "__main__":
    main()
