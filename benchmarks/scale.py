"""What grows with the size of a build: `make bench-scale`.

Plans and completions of 1.5 million shards are synthetic: no field is read, no shard is written, and records are made
as they are asked for. The build that goes on is a real one of small shards. Each figure stands beside its bar.
"""

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.harness import heading, line, resident_kibibytes
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.build.part_totals import PartTotals
from pelagos.preprocessing.build.partition import Parts, check_partition
from pelagos.preprocessing.build.plan import make_plan
from pelagos.preprocessing.build.write_part import PartRecord, write_part
from pelagos.preprocessing.files.durable import Checksum
from pelagos.preprocessing.store.manifest import Manifest, read_manifest
from pelagos.preprocessing.store.shard_layout import ShardLayout


def row(name: str, value: float, unit: str, most: float | None) -> str:
    """A line of the table, with what the figure may be at most."""
    bar = "" if most is None else f"{most:g} {unit}: {'holds' if value < most else 'MISSED'}"
    return line([name, f"{value:.2f} {unit}", bar])


def archive(folder: Path, trajectories: int) -> Path:
    """A file of PDEBench with small fields, from which `trajectories` shards of one trajectory each can be built."""
    path = folder / "2D_CFD_small_periodic.hdf5"
    with h5py.File(path, "w") as file:
        for name in ("density", "pressure", "Vx", "Vy"):
            file[name] = np.random.default_rng(0).normal(size=(trajectories, 2, 8, 8)).astype("f4")
        file["x-coordinate"] = file["y-coordinate"] = (np.arange(8) + 0.5) / 8
        file["t-coordinate"] = np.arange(3.0)
    return path


def configuration(folder: Path, trajectories: int, **options: Any) -> BuildConfig:
    """A build of such a file."""
    values = {
        "dataset": "small",
        "source": {"kind": "pdebench", "paths": str(archive(folder, trajectories))},
        "root": str(folder),
        "shard_bytes": 2048,  # a trajectory of two frames
        "accept": ["constant", "spikes"],
    }
    return BuildConfig.model_validate(values | options)


def partition(shards: int) -> None:
    """Cut a store into parts and check them: what a plan takes before the first task beside opening the archive."""
    layout = ShardLayout((shards, 20, 1, 8, 8), (1, 20, 1, 8, 8), (1, 1, 1, 8, 8), "none")
    check_partition(Parts(layout), layout)


def completion(shards: int, folder: Path) -> None:
    """Complete a store of so many shards as far as memory goes: the totals of its records, and the manifest."""
    config = configuration(folder, 3)
    plan = make_plan(config)
    (folder / "root" / "_build" / "shards").mkdir(parents=True)
    one = write_part(folder / "root", plan, plan.parts[0])
    checksum = next(iter(one.files.values()))

    def records() -> Iterator[PartRecord]:
        for number in range(shards):
            digest = f"{number:064x}"
            files = {f"state/c/{number}/0/0/0/0": Checksum(checksum.bytes, digest[-8:], digest)}
            yield replace(one, files=files, initial_digests=[digest[-16:]])

    totals = PartTotals(records())
    manifest = Manifest("print", config.content(), totals.files, totals.rounding.tolist(), [], [])
    manifest.write(folder / "root")


def reading(shards: int, folder: Path) -> None:
    """Complete a store, and read its manifest as each process does that opens the store."""
    completion(shards, folder)
    assert len(read_manifest(folder / "root").files) == shards


def resumed(shards: int, folder: Path) -> float:
    """Seconds that a build takes to go on after its last shard was written."""

    class _EndError(Exception):
        pass

    def stop(done: int, num: int) -> None:
        if done == num:
            raise _EndError

    config = configuration(folder, shards)
    with contextlib.suppress(_EndError):
        build(config, stop)
    before = time.monotonic()
    build(config)
    return time.monotonic() - before


def alone(name: str, shards: int) -> tuple[float, float]:
    """Seconds and peak of resident memory [GB] of a part of this program in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scale", "--only", name, "--shards", str(shards)]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(found[0]), float(found[1])


CASES: dict[str, Callable[[int, Path], object]] = {
    "partition": lambda shards, folder: partition(shards),
    "completion": completion,
    "reading": reading,
}


def main() -> None:
    """Print all figures, or run one case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=1_500_000, help="synthetic shards")
    parser.add_argument("--small", type=int, default=10_000, help="shards of the build that goes on")
    parser.add_argument("--only", choices=CASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.only:
            before = time.monotonic()
            CASES[arguments.only](arguments.shards, Path(folder))
            peak = resident_kibibytes("VmHWM") * 1024 / 1e9
            print(time.monotonic() - before, peak)
            return
        print(heading(["what", "measured", "bar"]))
        for name, most in (("partition", 60.0), ("completion", None), ("reading", None)):
            seconds, peak = alone(name, arguments.shards)
            what = f"{name}, {arguments.shards} synthetic shards"
            print(row(f"{what}: time", seconds, "s", most))
            print(row(f"{what}: memory", peak, "GB", 1.0 if name == "completion" else None))
        taken = resumed(arguments.small, Path(folder))
        print(row(f"a build of {arguments.small} small shards goes on", taken, "s", 10.0))


if __name__ == "__main__":
    main()
