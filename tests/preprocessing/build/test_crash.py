"""Builds that are killed at random moments, and go on with other numbers of workers."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analytic_source import contents

from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.store.manifest import read_manifest, verify

SHARDS = 10
KILLED = -9


class Server:
    """Speaks with `fork_server.py`."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("fork_server.py")
        # The sources of these tests lie one folder above; the interpreter itself finds the script's folder only.
        paths = os.pathsep.join([str(script.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [sys.executable, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": paths},
        )

    def run(
        self, configs: list[BuildConfig], kill_after: float | None = None, await_: Path | None = None
    ) -> list[int]:
        order = {
            "configs": [config.model_dump_json() for config in configs],
            "kill_after": kill_after,
            "await": str(await_) if await_ else None,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        codes: list[int] = json.loads(self._process.stdout.readline())
        return codes

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@dataclass
class Trial:
    """Stores that are built under fire until enough builds were killed."""

    server: Server
    root: Path
    rng: np.random.Generator
    dask_every: int
    kills: int = 0
    runs: int = 0
    struck: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        values = self.rng.normal(size=(SHARDS, 8, 2, 96, 96)).astype(np.float32)
        np.save(self.root / "archive.npy", values)
        self.whole = {codec: contents(build(self.config(codec, "whole"))) for codec in ("none", "blosc-lz4")}
        started = time.monotonic()
        assert self.server.run([self.config("none", "timed")]) == [0]
        self.duration = time.monotonic() - started

    def config(self, codec: str, version: str, **options: Any) -> BuildConfig:
        values = {
            "dataset": "archive",
            "source": {
                "kind": "external",
                "path": "archive_source:Archive",
                "args": {"path": str(self.root / "archive.npy")},
            },
            "root": self.root / f"{version}-{codec}",
            "splits": {"kind": "trajectories", "valid": 1, "test": 1},
            "shard_bytes": 8 * 2 * 96 * 96 * 4,
            "codec": codec,
        }
        return BuildConfig.model_validate(values | options)

    def kill(self, enough: int) -> None:
        """Build one store after the other, each killed over and over on its way."""
        store = 0
        while self.kills < enough:
            codec, version = str(self.rng.choice(list(self.whole))), f"trial-{store}"
            path = self.config(codec, version).path
            growing = path.with_name(f"{path.name}.building")
            entries: set[str] = set()
            while self.kills < enough and not path.exists():
                self._strike(codec, version, growing)
                entries = self._examine(path, growing, codec, entries)
            assert self.server.run([self.config(codec, version)]) == [0]
            found, whole = (read_manifest(root) for root in (path, self.config(codec, "whole").path))
            assert set(found.files) ^ set(whole.files) == set()
            assert contents(path) == self.whole[codec], "not what an undisturbed build makes"
            assert verify(path, sha256=True) == []
            assert not list(path.parent.glob(".*.building.*"))
            shutil.rmtree(path.parent)
            store += 1

    def _strike(self, codec: str, version: str, growing: Path) -> None:
        """Begin a build with some number of workers, and kill all of them at once."""
        self.runs += 1
        workers = int(self.rng.choice([1, 2, 4]))
        # At any moment from the start on, or soon after a shard was finished, when the next one is written.
        entries = growing / "_build/shards" if self.rng.random() < 0.5 else None
        after = float(self.rng.uniform(0, self.duration * (0.2 if entries else 1.2)))
        if self.dask_every and self.runs % self.dask_every == 0:
            # Its processes take seconds to start; what comes before writing is struck often enough.
            kind, configs = "dask", [self.config(codec, version, workers=workers)]
            codes = self.server.run(configs, after, growing / "_build/shards")
        else:
            parts = [f"{number}/{workers}" for number in range(1, workers + 1)]
            kind, configs = "parts", [self.config(codec, version, part=part) for part in parts]
            codes = self.server.run(configs, after, entries)
        assert set(codes) <= {0, KILLED}, f"a build failed that nobody killed: {codes}"
        if KILLED in codes:
            self.kills += 1
            self.struck[f"{workers} {kind}"] += 1
            self.struck["in a shard"] += bool(list(growing.glob("state/**/*.partial")))
            self.struck["in an entry"] += bool(list(growing.glob("_build/**/*.partial")))

    def _examine(self, path: Path, growing: Path, codec: str, before: set[str]) -> set[str]:
        """What has its name is whole, and what was finished is kept; returns what is finished."""
        root = path if path.exists() else growing
        if not root.exists():
            return before
        found = {name: digest for name, digest in contents(root).items() if not name.endswith(".partial")}
        shards = {name for name in found if name.startswith("state/c/")}
        assert {name: found[name] for name in shards} == {name: self.whole[codec][name] for name in shards}
        entries = {name for name in found if name.startswith("_build/shards/")}
        if root == path:
            assert shards == {name for name in self.whole[codec] if name.startswith("state/c/")}
            return entries
        assert entries >= before, "finished shards were lost"
        for entry in entries:
            assert set(json.loads((root / entry).read_text())["files"]) <= shards
        return entries


def test_ten_killed_builds_leave_no_torn_shard_and_end_as_if_undisturbed(
    server: Server, tmp_path: Path
) -> None:
    trial = Trial(server, tmp_path, np.random.default_rng(), dask_every=0)
    trial.kill(10)


@pytest.mark.crash
@pytest.mark.timeout(1800)
def test_a_hundred_killed_builds_leave_no_torn_shard_and_end_as_if_undisturbed(
    server: Server, tmp_path: Path
) -> None:
    trial = Trial(server, tmp_path, np.random.default_rng(), dask_every=10)
    trial.kill(100)
    print(dict(trial.struck))
    assert trial.struck["in a shard"] >= 5, "few kills hit the writing of a shard"
