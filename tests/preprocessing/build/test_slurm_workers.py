import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from analytic_source import configuration

from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.build.slurm_workers import SlurmWorkers
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
