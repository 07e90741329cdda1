import asyncio
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from analytic_source import configuration

from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.build.slurm_workers import JobReplacer, SlurmWorkers
from pelagos.preprocessing.errors import ConfigError


def test_workers_on_slurm_without_slurm_are_a_clear_error(
    rich: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configuration(tmp_path, rich, workers={"kind": "slurm", "jobs": 2})
    monkeypatch.setitem(sys.modules, "dask_jobqueue", SimpleNamespace(SLURMCluster=None))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match="there is no sbatch on this machine"):
        build(config)
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(ConfigError, match=r"needs dask-jobqueue: pip install 'pelagos\[slurm\]'"):
        build(config)


def test_options_become_those_of_sbatch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: dict[str, Any] = {}

    class Cluster:
        def __init__(self, **options: Any) -> None:
            asked.update(options)

        def __enter__(self) -> "Cluster":
            return self

        def __exit__(self, *_: object) -> None:
            asked["ended"] = True

        def scale(self, jobs: int) -> None:
            asked["jobs"] = jobs

    monkeypatch.setitem(sys.modules, "dask_jobqueue", SimpleNamespace(SLURMCluster=Cluster))
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    options = {"qos": "low", "exclusive": None, "nice": 3}
    workers = SlurmWorkers(kind="slurm", jobs=4, processes=2, time="01:00:00", options=options)
    with workers.cluster(tmp_path) as cluster:
        assert isinstance(cluster, Cluster)
        assert "ended" not in asked
    assert asked["ended"]
    assert asked["job_extra_directives"] == ["--qos=low", "--exclusive", "--nice=3"]
    assert (asked["jobs"], asked["cores"], asked["walltime"]) == (4, 2, "01:00:00")
    assert asked["log_directory"] == str(tmp_path)
    assert asked["worker_extra_args"][-2:] == ["--lifetime", "3300s"]


SBATCH = """#!/bin/sh
cp "$1" {folder}/script
for name in ca-file cert key; do
  file=$(grep -o -- "--tls-$name [^ ]*" "$1" | cut -d' ' -f2)
  stat -c %a "$(dirname "$file")"
done > {folder}/modes
echo Submitted batch job 17
"""


def test_jobs_get_a_key_that_only_their_owner_can_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("dask_jobqueue")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("sbatch", SBATCH.format(folder=tmp_path)), ("scancel", "#!/bin/sh\n")):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    workers = SlurmWorkers(kind="slurm", jobs=1)
    with workers.cluster(tmp_path) as cluster:
        cluster.sync(cluster._correct_state)
        port = next(iter(cluster.scheduler.http_server._sockets.values())).getsockname()
        assert port[0] == "127.0.0.1"
        assert cluster.scheduler_address.startswith("tls://")
    script = (tmp_path / "script").read_text()
    assert (tmp_path / "modes").read_text().split() == ["700"] * 3
    assert f"{sys.executable} -P -m distributed.cli.dask_worker tls://" in script
    assert "--no-dashboard" in script
    assert "PRIVATE KEY" not in script
    assert not list(tmp_path.glob(".pelagos-keys-*"))


def test_a_job_that_ends_is_replaced_and_one_that_queues_is_left_alone() -> None:
    class Cluster:
        """As much of a cluster of dask-jobqueue as tells which jobs there are."""

        def __init__(self) -> None:
            self.worker_spec = {name: {"group": ["-0", "-1"]} for name in ("job-0", "job-1", "job-2")}
            self.workers = dict.fromkeys(self.worker_spec, self)
            self.closed = 0
            self.names = ["job-0-0", "job-0-1", "job-1-0"]  # job-2 still queues

        @property
        def scheduler_info(self) -> dict[str, Any]:
            return {"workers": {f"tls://{name}": {"name": name} for name in self.names}}

        def sync(self, call: Any) -> None:
            asyncio.run(call())

        async def close(self) -> None:
            self.closed += 1

        def scale(self, jobs: int) -> None:
            for number in range(3, 3 + jobs - len(self.worker_spec)):
                self.worker_spec[f"job-{number}"] = {"group": ["-0", "-1"]}

    cluster = Cluster()
    replacer = JobReplacer(cluster, 3)
    replacer.replace()
    assert list(cluster.worker_spec) == ["job-0", "job-1", "job-2"]
    cluster.names = ["job-0-1"]  # a job with a worker left goes on
    replacer.replace()
    assert (list(cluster.worker_spec), cluster.closed) == (["job-0", "job-2", "job-3"], 1)
    assert list(cluster.workers) == ["job-0", "job-2"]
