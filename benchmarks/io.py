"""How fast we read, load and write, beside a memory map, the disk itself and what others use: `make bench-io`.

Equal data for all; bit equality is asserted before anything is timed. Ratios are of the same run.
"""

import argparse
import gc
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from threading import Thread
from typing import Any

import h5py
import numpy as np
import zarr

from benchmarks import io_data
from benchmarks.harness import Call, heading, interleave, line, load, nothing
from benchmarks.io_peers import BARS, BATCH, PEERS, drain, with_zarrs
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.build.group_writer import write_skeleton
from pelagos.preprocessing.build.plan import make_plan
from pelagos.preprocessing.build.write_part import PROGRESS, write_part
from pelagos.preprocessing.loading.loader import Loader
from pelagos.preprocessing.samples.dataset import DatasetConfig
from pelagos.preprocessing.samples.mixture import Mixture, MixtureConfig
from pelagos.preprocessing.store.manifest import read_manifest
from pelagos.preprocessing.store.shard_checks import ShardChecks
from pelagos.preprocessing.store.shard_writer import write_shard
from pelagos.preprocessing.store.small_files import shard_files
from pelagos.preprocessing.store.store import open_store

OURS, LZ4, LIMIT = "Pelagos, none", "Pelagos, blosc-lz4", "memory map"
RAW, ALONE = "Pelagos, none, not normalised", "Pelagos, none, 1 thread"
PAIRS = 256  # of a reader's call
BATCHES, THEIRS = 256, 16  # of a loader's call: ours begins an iteration with each, others go on with theirs


class Rates:
    """How fast alternatives were, each call of which handles so many items: as many as the others, or of its own."""

    def __init__(
        self, items: int | dict[str, int], calls: dict[str, Call], rounds: int, before: Call = nothing
    ) -> None:
        self.items = items if isinstance(items, dict) else dict.fromkeys(calls, items)
        self.timings = interleave(calls, rounds, warm_up=1, before=before)

    def best(self, name: str) -> float:
        """Items a second in the best round."""
        return self.items[name] / min(self.timings.clock[name])

    def ratio(self, name: str, to: str) -> tuple[float, float]:
        """How many times as fast as `to`, by the clock and by the processor."""
        share, timings = self.items[name] / self.items[to], self.timings
        return share * timings.clock_ratio(to, name).median, share * timings.ratio(to, name).median

    def table(self, to: str, unit: str, slower: bool = False) -> list[str]:
        """Rates and ratios to one alternative, or of it to the others where these are `slower`."""
        ratio = f"{to} is faster by" if slower else f"to {to}"
        lines = [heading(("", f"{unit}/s median (best)", "processor us", f"{ratio}: clock", "processor"))]
        rates = {
            name: self.items[name] / statistics.median(clock) for name, clock in self.timings.clock.items()
        }
        for name, rate in sorted(rates.items(), key=lambda pair: -pair[1]):
            clock, processor = self.ratio(to, name) if slower else self.ratio(name, to)
            cost = 1e3 * self.timings.milliseconds(name) / self.items[name]
            cells = (
                f"{rate:,.0f} ({self.best(name):,.0f})",
                f"{cost:,.0f}",
                f"{clock:.2f}",
                f"{processor:.2f}",
            )
            lines.append(line((name, *cells)))
        return lines


class Report:
    """Tables for a person and gates for the exit code."""

    def __init__(self) -> None:
        self.failed = 0

    def show(self, title: str, lines: list[str]) -> None:
        print(f"\n### {title} ({load()})\n", *lines, sep="\n", flush=True)

    def gate(self, what: str, ratio: tuple[float, float], least: float) -> None:
        """Missed only if the clock and the CPU both say so: neighbours slow the clock alone."""
        met = max(ratio) >= least
        self.failed += not met
        print(f"- {'met' if met else 'MISSED'}: {what}: {ratio[0]:.2f} (CPU {ratio[1]:.2f}), bar {least}")


def read(root: Path, rounds: int, report: Report) -> None:
    rng = np.random.default_rng(1)
    limit = np.load(root / "limit.npy", mmap_mode="r")
    num, length, *frame = limit.shape
    out = np.empty((2, *frame), np.float32)
    direct, other = (io_data.store(root, codec) for codec in ("none", "blosc-lz4"))
    # As the loader reads once it has seen that files are not waited for.
    mapped, decoded = direct.frames.mapped, other.frames.mapped
    array, rust = (
        zarr.open_array(direct.path / "state", mode="r"),
        with_zarrs(Path(str(direct.path)) / "state"),
    )
    h5 = h5py.File(root / "poseidon.h5")["data"]

    def copy(n: int, t: int, to: Any) -> None:
        to[:] = limit[n, t]

    descriptor = os.open(root / "limit.npy", os.O_RDONLY)
    header, size = limit.offset, 4 * int(np.prod(frame))

    def preadv(n: int, t: int, to: Any) -> None:
        os.preadv(descriptor, [to], header + (n * length + t) * size)

    readers: dict[str, Callable[[int, int, Any], None]] = {
        LIMIT: copy,
        "preadv of the same file": preadv,
        OURS: lambda n, t, to: mapped.read_frame((n, t), [to]),
        LZ4: lambda n, t, to: decoded.read_frame((n, t), [to]),
        f"{OURS}, not mapped": lambda n, t, to: direct.frames.read_frame((n, t), [to]),
        "h5py read_direct": lambda n, t, to: h5.read_direct(to, np.s_[n, t]),
        f"zarr {zarr.__version__}": lambda n, t, to: np.copyto(to, array[n, t]),
        "the same with zarrs": lambda n, t, to: np.copyto(to, rust[n, t]),
    }
    for n, t in zip(rng.integers(num, size=16), rng.integers(length, size=16), strict=True):
        for name, reader in readers.items():
            reader(n, t, out[0])
            assert np.array_equal(out[0], limit[n, t]), name

    def call(reader: Callable[[int, int, Any], None]) -> Callable[[], None]:
        def pairs() -> None:
            places = zip(
                rng.integers(num, size=PAIRS).tolist(),
                rng.integers(length, size=(PAIRS, 2)).tolist(),
                strict=True,
            )
            for n, times in places:
                for t, to in zip(times, out, strict=True):
                    reader(n, t, to)

        return pairs

    timed = Rates(PAIRS, {name: call(reader) for name, reader in readers.items()}, rounds)
    report.show("Readers, warm, one thread, random pairs of frames", timed.table(LIMIT, "pairs"))
    report.gate("reader, uncompressed, to a copy from a memory map", timed.ratio(OURS, LIMIT), 0.90)
    report.gate("reader, blosc-lz4, to a copy from a memory map", timed.ratio(LZ4, LIMIT), 0.20)


def loader(root: Path, rounds: int, report: Report) -> None:
    sets = {
        OURS: io_data.dataset(root, "none"),
        LZ4: io_data.dataset(root, "blosc-lz4"),
        LIMIT: io_data.dataset(root, "none", mapped=True),
    }
    samples = np.arange(0, sets[OURS].num_samples, 397)[:16]
    assert all(
        np.array_equal(d.batch(samples).inputs, sets[LIMIT].batch(samples).inputs) for d in sets.values()
    )
    orders = {name: Mixture([d], batch_size=BATCH, micro_batch=BATCH) for name, d in sets.items()}
    calls: dict[str, Call] = {
        name: partial(consume, Loader(order, num_steps=BATCHES)) for name, order in orders.items()
    }
    calls[ALONE] = partial(consume, Loader(orders[OURS], num_steps=BATCHES, threads=1))
    calls[RAW] = partial(consume, Loader(orders[OURS], num_steps=BATCHES, scaled=False))
    streams = {
        f"{name}, 2 processes": iter(Loader(orders[of], processes=True, scaled=name != RAW))
        for name, of in ((OURS, OURS), (RAW, OURS), (LZ4, LZ4))
    }
    calls |= {name: drain(stream, BATCHES) for name, stream in streams.items()}
    items = dict.fromkeys(calls, BATCHES * BATCH) | dict.fromkeys(PEERS, THEIRS * BATCH)
    calls |= {name: drain(peer(root, sets[OURS]), THEIRS) for name, peer in PEERS.items()}
    timed = Rates(items, calls, rounds)
    for stream in streams.values():
        stream.close()
    report.show("Loaders, warm, batches of 16 pairs, normalised", timed.table(OURS, "pairs", slower=True))
    report.gate("loader, to the same ring over a memory map", timed.ratio(OURS, LIMIT), 0.75)
    for name, bar in BARS.items():
        report.gate(f"loader, to {name}", timed.ratio(OURS, name), bar)
    what = "loader for a device that normalises, to Poseidon's pattern, which normalises each sample"
    report.gate(what, timed.ratio(RAW, "Poseidon's pattern"), BARS["Poseidon's pattern"])


def consume(batches: Loader) -> None:
    for _ in batches:
        pass


def forget(root: Path) -> None:
    """Take all files out of the page cache."""
    for file in root.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cold(root: Path, rounds: int, report: Report) -> None:
    gc.collect()  # pages that something has mapped do not leave the cache
    rng = np.random.default_rng(2)
    # A file of its own, likewise.
    file = shutil.copy(root / "limit.npy", root / "cold.npy")
    limit = np.load(file, mmap_mode="r")
    (num, length, *frame), header = limit.shape, limit.offset
    del limit
    descriptor = os.open(file, os.O_RDONLY)
    size = 4 * int(np.prod(frame))

    def places() -> list[tuple[int, int]]:
        chosen = rng.choice(num * length, 128, replace=False)
        return [(int(k) // length, int(k) % length) for k in chosen]

    def preadv() -> None:
        out = np.empty(frame, np.float32)
        for n, t in places():
            os.preadv(descriptor, [out], header + (n * length + t) * size)  # type: ignore[list-item]

    def mapped() -> None:
        out, mapping = np.empty(frame, np.float32), np.load(file, mmap_mode="r")
        for n, t in places():
            out[:] = mapping[n, t]

    def threads(codec: str) -> Callable[[], None]:
        frames = io_data.store(root, codec).frames

        def some(mine: list[tuple[int, int]]) -> None:
            out = np.empty(frame, np.float32)
            for place in mine:
                frames.read_frame(place, [out])

        def call() -> None:
            todo = places()
            running = [Thread(target=some, args=[todo[k::4]]) for k in range(4)]
            for thread in running:
                thread.start()
            for thread in running:
                thread.join()

        return call

    calls: dict[str, Call] = {
        "preadv, one thread": preadv,
        "memory map copy": mapped,
        f"{OURS}, 4 threads": threads("none"),
        f"{LZ4}, 4 threads": threads("blosc-lz4"),
    }
    timed = Rates(128, calls, rounds, before=lambda: forget(root))
    report.show("Cold: single frames out of the page cache", timed.table("preadv, one thread", "frames"))
    os.close(descriptor)

    def once(pool: int) -> None:
        # Opened anew: pages that an earlier round has mapped would not leave the cache.
        data = io_data.dataset(root, "none", pool=pool)
        consume(Loader(Mixture([data], batch_size=BATCH, micro_batch=BATCH), num_steps=64))

    calls = {"frame by frame": partial(once, 0), "pool of 4 trajectories": partial(once, 4)}
    timed = Rates(64 * BATCH, calls, max(3, rounds // 3), before=lambda: forget(root))
    report.show("Cold: 1024 pairs through the loader", timed.table("frame by frame", "pairs"))


def write(root: Path, rounds: int, report: Report) -> None:
    plans = {
        codec: make_plan(io_data.configuration(root / "limit.npy", root, codec=codec))
        for codec in ("none", "blosc-lz4")
    }
    state = plans["none"].state
    block = np.ascontiguousarray(np.load(root / "limit.npy", mmap_mode="r")[: state.shard[0]])
    folder = root / "written"
    folder.mkdir()

    def raw() -> None:
        descriptor = os.open(folder / "raw", os.O_WRONLY | os.O_CREAT)
        content, done = block.reshape(-1).view(np.uint8).data, 0
        while done < len(content):
            done += os.write(descriptor, content[done:])
        os.fsync(descriptor)
        os.close(descriptor)

    def clean() -> None:
        for file in folder.iterdir():
            shutil.rmtree(file) if file.is_dir() else file.unlink()

    def through_zarr() -> None:
        array = zarr.create_array(
            folder / "z",
            shape=block.shape,
            shards=block.shape,
            chunks=state.chunk,
            dtype="f4",
            compressors=None,
        )
        array[:] = block
        for file in (folder / "z").rglob("*"):
            if file.is_file():
                with file.open("rb") as opened:
                    os.fsync(opened.fileno())

    calls: dict[str, Call] = {
        "write + fsync": raw,
        OURS: lambda: write_shard(folder / "none", block, plans["none"].state),
        LZ4: lambda: write_shard(folder / "lz4", block, plans["blosc-lz4"].state),
        f"zarr {zarr.__version__} + fsync": through_zarr,
    }
    timed = Rates(block.nbytes // 1_000_000, calls, rounds, before=clean)
    report.show(
        f"Writers, one shard of {block.nbytes / 1e6:.0f} MB, durable", timed.table("write + fsync", "MB")
    )
    for name, bar in ((OURS, 0.9), (LZ4, 0.6)):
        wall, _ = timed.ratio(name, "write + fsync")
        # The disk is waited for, so the processor's time is no measure here.
        best = timed.best(name) / timed.best("write + fsync")
        what = f"write with fsync, CRC-32C and SHA-256, {name}, median (best rounds {best:.2f})"
        report.gate(what, (wall, wall), bar)


def memory(root: Path, rounds: int, report: Report) -> None:
    lines = ["| trajectories | codec | peak beyond the start, in shards |", "|---|---|---|"]
    worst = 0.0
    source = root / "long.npy"
    values = np.load(root / "limit.npy", mmap_mode="r")[:8]
    for num in (16, 160):
        np.save(source, np.concatenate([values] * (num // 8)))
        for codec in ("none", "blosc-lz4"):
            command = [sys.executable, "-m", "benchmarks.io", "--root", str(root), "task", codec]
            peak = float(
                subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]
            )
            worst = max(worst, peak)
            lines.append(f"| {num} | {codec} | {peak:.2f} |")
    source.unlink()
    report.show("Memory of one task", lines)
    report.gate("1.2 shards to the peak of a task", (1.2 / worst, 1.2 / worst), 1.0)


def task(root: Path, codec: str) -> None:
    """One task in a process of its own; prints the resident peak beyond the start, in shards."""
    plan = make_plan(io_data.configuration(root / "long.npy", root, codec=codec))
    folder = Path(tempfile.mkdtemp(dir=root))
    write_skeleton(folder, plan)
    (folder / PROGRESS).mkdir(parents=True)
    write_part(folder, plan, plan.parts[0])  # what is imported and allocated once
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("RssAnon")
    peak, going = 0, True

    def watch() -> None:
        nonlocal peak
        while going:
            peak = max(peak, _status("RssAnon"))
            time.sleep(0.001)

    watcher = Thread(target=watch)
    watcher.start()
    write_part(folder, plan, plan.parts[1])
    going = False
    watcher.join()
    shutil.rmtree(folder)
    print((peak - before) * 1024 / (4 * np.prod(plan.state.shard)))


def _status(name: str) -> int:
    """Of anonymous memory: pages of the mapped source are the system's, which it takes back as it likes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])


def opening(root: Path, rounds: int, report: Report) -> None:
    source, paths = root / "many.npy", {}
    for num in (320, 32_000):
        np.save(source, io_data.turbulence(320, 5, 2, 8).repeat(num // 320, axis=0))
        paths[num] = build(io_data.configuration(source, root, version=f"{num}", shard_bytes=1 << 20))

    def first(num: int) -> None:
        mixture = MixtureConfig(
            datasets=(DatasetConfig(path=paths[num]),), batch_size=BATCH, micro_batch=BATCH
        )
        next(iter(Loader(mixture.build(), num_steps=1)))

    names = {num: f"{num:,} trajectories" for num in paths}
    timed = Rates(1, {name: partial(first, num) for num, name in names.items()}, rounds)
    report.show("Opening a mixture and drawing the first batch", timed.table(names[320], "times"))


def checks(root: Path, rounds: int, report: Report) -> None:
    path = io_data.store(root, "none").path
    shards = ShardChecks(shard_files(read_manifest(path), "state"), contents=True)
    num_batches = DatasetConfig(path=path).open().num_samples // BATCH

    def epoch() -> None:
        data = DatasetConfig(path=path, verify="none").open()
        consume(Loader(Mixture([data], batch_size=BATCH, micro_batch=BATCH), num_steps=num_batches))

    calls: dict[str, Call] = {
        "first epoch, opened anew, unchecked": epoch,
        "opening, unchecked": lambda: open_store(path, "none"),
        "opening, checked": lambda: open_store(path, "opening"),
        "all shards checked": lambda: shards.check_all(path / "state"),
    }
    whole, unchecked, checked, all_shards = calls
    timings = Rates(1, calls, rounds).timings
    clock = {name: 1e3 * statistics.median(taken) for name, taken in timings.clock.items()}
    processor = {name: timings.milliseconds(name) for name in calls}
    lines = [heading(("", "clock ms", "processor ms"))]
    lines += [line((name, f"{clock[name]:,.1f}", f"{processor[name]:,.1f}")) for name in calls]

    def share(costs: Callable[[dict[str, float]], float]) -> tuple[float, float]:
        """What is left of the first epoch's speed once it pays for a check."""
        clock_left, processor_left = (1 - costs(taken) / taken[whole] for taken in (clock, processor))
        return clock_left, processor_left

    report.show(f"Checks of a store of {num_batches * BATCH:,} pairs", lines)
    report.gate("verify: opening, the default", share(lambda t: t[checked] - t[unchecked]), 0.98)
    left = share(lambda t: t[checked] - t[unchecked] + t[all_shards])
    print(f"- verify: frames, by option: {left[0]:.2f} (CPU {left[1]:.2f}) in the first epoch, 1 later")


SECTIONS = {
    "checks": checks,
    "read": read,
    "loader": loader,
    "write": write,
    "cold": cold,
    "memory": memory,
    "opening": opening,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, help="where to put 2 GB; a folder of a local disk")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--trajectories", type=int, default=64, help="of 5.5 MB each")
    parser.add_argument("sections", nargs="*", default=list(SECTIONS))
    arguments = parser.parse_args()
    if arguments.sections[0] == "task":
        task(arguments.root, arguments.sections[1])
        return
    root = Path(tempfile.mkdtemp(prefix="pelagos-bench-", dir=arguments.root or Path.cwd()))
    report = Report()
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("numpy", "torch", "zarr", "numcodecs", "h5py")
    )
    print(
        f"{time.strftime('%Y-%m-%d %H:%M')}, {platform.machine()}, Python {platform.python_version()}, {packages}"
    )
    try:
        io_data.make(root, arguments.trajectories)
        for name in arguments.sections:
            SECTIONS[name](root, arguments.rounds, report)
    finally:
        shutil.rmtree(root)
    sys.exit(report.failed > 0)


if __name__ == "__main__":
    main()
