"""A real SLURM of two nodes on this machine: jobs run, stop in time, and survive what clusters do to them."""

import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import psutil
import pytest
import torch
import yaml
from safetensors.torch import load_file

from pelagos.pipeline.engine import checkpoint
from pelagos.pipeline.tracking.tracker import TrackingConfig, read_metrics
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.build.slurm_workers import SlurmWorkers
from pelagos.preprocessing.online.simulation import SimulateConfig, simulate
from pelagos.preprocessing.sources.formats import well_writer
from pelagos.preprocessing.store.manifest import verify

SCRIPTS = Path(__file__).resolve().parents[3] / "slurm"
LOCAL = SCRIPTS / "local"
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
ENDS = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
PROGRAMS = ("sbatch", "slurmctld", "slurmd", "munged")


class Cluster:
    """The local SLURM, its jobs, and the means to disturb them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hurried: set[tuple[str, str]] = set()
        self.environment = {**os.environ, "PATH": PATH, "SLURM_CONF": str(folder / "slurm.conf")}

    def call(self, *command: str | Path) -> str:
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def submit(self, config: Path, *arguments: str) -> list[str]:
        """The numbers of the jobs that `pelagos submit` queues."""
        command = [sys.executable, "-m", "pelagos.pipeline", "submit", str(config), *arguments]
        return self.call(*command).split(":")[0].removeprefix("queued ").split(", ")

    def state(self, job: str) -> dict[str, str]:
        words = self.call("scontrol", "show", "job", job, "--oneliner").split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait(self, job: str, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition, and let a job that is queued again start after seconds.

        SLURM waits for two minutes, so that no node takes the new start for the old one that it has just
        ended; that takes more than a second's difference.
        """
        limit = time.monotonic() + 300
        while not condition():
            state = self.state(job)
            waiting = (job, state["Restarts"])
            if (state["JobState"], state["Reason"]) == (
                "PENDING",
                "BeginTime",
            ) and waiting not in self.hurried:
                self.call("scontrol", "update", f"JobId={job}", "StartTime=now+3")
                self.hurried.add(waiting)
            over = state["JobState"] in ENDS or time.monotonic() > limit
            assert not over or condition(), f"waited for {what}: {state}\n{self.logs()}"
            time.sleep(0.05)

    def wait_for_restart(self, job: str, number: int) -> None:
        def queued_again() -> bool:
            state = self.state(job)
            return state["JobState"] != "COMPLETING" and int(state["Restarts"]) == number

        self.wait(job, queued_again, f"restart {number}")

    def finish(self, job: str) -> dict[str, str]:
        self.wait(job, lambda: self.state(job)["JobState"] in ENDS, "the end")
        return self.state(job)

    def logs(self) -> str:
        return "\n".join(f"{file}\n{file.read_text()}" for file in sorted(self.folder.parent.rglob("*.log")))

    def kill_node(self, name: str) -> None:
        """As if its power failed: the daemon, the steps and their processes are gone at once."""
        daemon = int((self.folder / f"slurmd-{name}.pid").read_text())
        tasks = [process for process in psutil.process_iter() if self._runs_on(process, name)]
        assert tasks
        parents = [parent for task in tasks if (parent := task.parent())]
        for process in {psutil.Process(daemon), *parents, *tasks}:
            process.kill()

    def _runs_on(self, process: psutil.Process, name: str) -> bool:
        try:
            environment = process.environ()
        except psutil.Error:
            return False
        mine = environment.get("SLURM_CONF") == self.environment["SLURM_CONF"]
        return mine and environment.get("SLURMD_NODENAME") == name and "SLURM_STEP_ID" in environment

    def start_node(self, name: str) -> None:
        self.call("slurmd", "-N", name)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes of a core each."""
    missing = [program for program in PROGRAMS if shutil.which(program, path=PATH) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: apt-get install slurm-wlm munge")
    found = Cluster(tmp_path_factory.mktemp("cluster") / "slurm")
    found.call(LOCAL / "up.sh", found.folder)
    yield found
    found.call(LOCAL / "down.sh", found.folder)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Travelling waves in a file of The Well's layout."""
    file = tmp_path_factory.mktemp("archive") / "waves.hdf5"
    equation = {"kind": "wave"}
    shape = {"num_trajectories": 6, "shape": (16, 16), "num_frames": 8, "interval": 0.02}
    well_writer.write(simulate(SimulateConfig(equation=equation, **shape)), file)
    return file


def stage(archive: Path, root: Path) -> BuildConfig:
    values = {
        "dataset": "waves",
        "source": {"kind": "the_well", "paths": str(archive)},
        "root": str(root),
        "splits": {"kind": "trajectories", "valid": 1},
        "shard_bytes": 16384,
    }
    return BuildConfig.model_validate(values)


def contents(path: Path) -> dict[str, str]:
    files = (file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_an_array_of_jobs_builds_the_bytes_of_one_process(
    cluster: Cluster, archive: Path, tmp_path: Path
) -> None:
    config = stage(archive, tmp_path / "stores")
    file = tmp_path / "build.yaml"
    file.write_text(yaml.safe_dump({"command": "build", **config.model_dump(mode="json")}))
    array, last = cluster.submit(file, "--parts", "2")
    assert cluster.finish(last)["JobState"] == "COMPLETED", cluster.logs()
    alone = build(stage(archive, tmp_path / "alone"))
    assert len(list(alone.glob("state/c/*"))) > 2
    assert contents(config.path) == contents(alone)
    assert verify(config.path) == []
    logs = sorted(config.path.parent.glob("waves-1-*.log"))
    assert len(logs) == 3, f"two tasks of {array}, then {last}"


def test_workers_in_jobs_build_the_bytes_of_one_process(
    cluster: Cluster, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("dask_jobqueue", reason="needs dask-jobqueue: pip install 'pelagos[slurm]'")
    monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
    workers = SlurmWorkers(kind="slurm", memory="1GB", time="00:10:00")
    config = stage(archive, tmp_path / "jobs").model_copy(update={"workers": workers})
    alone = build(stage(archive, tmp_path / "alone"))
    assert contents(build(config)) == contents(alone)
    jobs = cluster.call("scontrol", "show", "jobs", "--oneliner")
    assert "JobName=pelagos-build" in jobs


def test_only_what_may_end_well_goes_back_into_the_queue(cluster: Cluster, tmp_path: Path) -> None:
    def start(name: str, training: str) -> str:
        """The job of a run in whose place a line of shell stands."""
        program = tmp_path / name
        program.write_text(f"#!/bin/bash\n[ $1 = -c ] && echo 20000 && exit\ntouch $0.started\n{training}\n")
        program.chmod(0o755)
        values = f"PELAGOS_ENV={SCRIPTS / 'env.sh'},PELAGOS_PYTHON={program},PELAGOS_RUN={program},RETRIES=1"
        options = (f"--export=ALL,{values}", f"--output={program}.log")
        return cluster.call("sbatch", "--parsable", *options, SCRIPTS / "pretrain.sbatch").strip()

    refused, dying = start("refused", "exit 1"), start("dying", "exit 70")
    cancelled = start("cancelled", "trap 'exit 75' TERM; sleep 100 & wait")
    states = {job: cluster.finish(job) for job in (refused, dying)}
    cluster.wait(cancelled, (tmp_path / "cancelled.started").exists, "to start")
    cluster.call("scancel", cancelled)
    states[cancelled] = cluster.finish(cancelled)
    found = {job: (state["JobState"], state["Restarts"], state["ExitCode"]) for job, state in states.items()}
    assert found[refused] == ("FAILED", "0", "1:0")
    assert found[dying] == ("FAILED", "1", "70:0")
    assert found[cancelled][:2] == ("CANCELLED", "0")


def test_what_passes_by_itself_waits_in_the_queue_longer_each_time(cluster: Cluster, tmp_path: Path) -> None:
    program = tmp_path / "full"
    program.write_text("#!/bin/bash\n[ $1 = -c ] && echo 20000 && exit\nexit 74\n")
    program.chmod(0o755)
    program.with_suffix(".failures").write_text("74 none\n" * 4 + "70 none\n" * 9)
    values = f"PELAGOS_ENV={SCRIPTS / 'env.sh'},PELAGOS_PYTHON={program},PELAGOS_RUN={program}"
    jobs = {}
    for command in ("pretrain", "evaluate"):
        options = (f"--export=ALL,{values}", f"--output={tmp_path}/{command}.log")
        script = SCRIPTS / f"{command}.sbatch"
        jobs[command] = cluster.call("sbatch", "--parsable", *options, script).strip()
        limit = time.monotonic() + 60
        while (waits := waiting(cluster.state(jobs[command]))) < 1500:
            assert time.monotonic() < limit, (waits, cluster.state(jobs[command]), cluster.logs())
            time.sleep(0.1)
        assert waits <= 3600
        cluster.call("scancel", jobs[command])
    assert program.with_suffix(".failures").read_text().count("74 none") == 6


def waiting(state: dict[str, str]) -> float:
    """Seconds until a job that is queued again may start."""
    if (state["JobState"], state["Restarts"]) != ("PENDING", "1") or state["StartTime"] == "Unknown":
        return 0.0
    return datetime.fromisoformat(state["StartTime"]).timestamp() - time.time()


@pytest.fixture(scope="module")
def training(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration of a tiny network, without an output."""
    folder = tmp_path_factory.mktemp("training")
    sizes = {
        "embed_dim": 16,
        "depths": [1, 1],
        "num_heads": [2, 2],
        "skip_connections": [1, 0],
        "window_size": 4,
    }
    values = {
        "command": "pretrain",
        "network": {"kind": "scot", "patch_size": 2, **sizes},
        "data": [{"path": str(build(stage(archive, folder / "stores")))}],
        "loop": {"steps": 100, "batch_size": 8, "micro_batch": 4, "checkpoint_every": 15, "log_every": 5},
        "tracking": {"uri": f"sqlite:///{folder}/mlflow.db"},
        "threads": 1,
    }
    file = folder / "train.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


def steps(run: Path) -> int:
    records = read_metrics(run)
    return int(records[-1]["step"]) if records else 0


def newest(run: Path) -> int:
    folder = checkpoint.latest(run / "checkpoints")
    return int(folder.name.removeprefix("step-")) if folder else 0


DYING_SERVER = """
import os, signal, sys
from flask import request
from mlflow.server import app, handlers

@app.after_request
def die_of_metrics(response):
    # They are stored by now, but nobody is told.
    if request.path.endswith("/log-batch") and request.json.get("metrics"):
        os.kill(os.getpid(), signal.SIGKILL)
    return response

database, port = sys.argv[1:]
handlers.initialize_backend_stores(database, database, "artifacts")
app.run("127.0.0.1", int(port))
"""


def start_server(database: str, log: Path) -> tuple["subprocess.Popen[bytes]", str]:
    """A tracking server that is killed when the first metrics have arrived, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", DYING_SERVER, database, str(port)]
    with log.open("wb") as output:
        server = subprocess.Popen(command, cwd=log.parent, stdout=output, stderr=subprocess.STDOUT)
    while True:
        assert server.poll() is None, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.05)
        else:
            return server, f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def calm(cluster: Cluster, training: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a job that nothing disturbs but the death of the tracking server."""
    run = tmp_path_factory.mktemp("calm") / "calm"
    database = yaml.safe_load(training.read_text())["tracking"]["uri"]
    server, address = start_server(database, run.with_name("server.log"))
    try:
        [job] = cluster.submit(training, f"output={run}", f"tracking.uri={address}", "--nodes", "2")
        assert cluster.finish(job)["JobState"] == "COMPLETED", cluster.logs()
        assert server.poll() == -signal.SIGKILL
    finally:
        server.kill()
        server.wait()
    return run


def sent(training: Path, name: str) -> dict[int, float]:
    """Losses by step that the tracking server has of a run; it has each once."""
    client = TrackingConfig(**yaml.safe_load(training.read_text())["tracking"]).client()
    [experiment] = [found for found in client.search_experiments() if found.name == "pelagos"]
    [found] = client.search_runs([experiment.experiment_id], f"attributes.run_name = '{name}'")
    metrics = client.get_metric_history(found.info.run_id, "train/loss")
    assert len({metric.step for metric in metrics}) == len(metrics)
    return {metric.step: metric.value for metric in metrics}


def losses(run: Path) -> dict[int, float]:
    return {
        int(record["step"]): record["train/loss"] for record in read_metrics(run) if "train/loss" in record
    }


def go_on(cluster: Cluster, training: Path, *overrides: str) -> None:
    """Give the command of a run that has ended again, outside the cluster."""
    cluster.call(sys.executable, "-m", "pelagos.pipeline", "pretrain", str(training), *overrides)


def test_a_job_goes_on_when_the_tracking_server_dies_and_the_server_gets_all_of_it_later(
    cluster: Cluster, training: Path, calm: Path
) -> None:
    [log] = calm.parent.glob("calm-*.log")
    assert log.read_text().count("does not answer; metrics are kept in") == 1
    assert list(losses(calm)) == list(range(5, 101, 5))
    early = sent(training, "calm")
    assert 1 <= len(early) < len(losses(calm))
    go_on(cluster, training, f"output={calm}")
    assert sent(training, "calm") == losses(calm)


def test_weights_do_not_show_a_warning_a_preemption_and_a_dead_node(
    cluster: Cluster, training: Path, calm: Path, tmp_path: Path
) -> None:
    rough = tmp_path / "rough"
    [job] = cluster.submit(training, f"output={rough}", "--nodes", "2")
    log = tmp_path / f"rough-{job}.log"

    # What --signal sends before the time limit.
    cluster.wait(job, lambda: steps(rough) >= 5, "the first steps")
    cluster.call("scancel", "--signal=USR1", job)
    cluster.wait_for_restart(job, 1)
    kept = newest(rough)
    assert f"stopped after step {kept}, kept in" in log.read_text()
    assert "exit code 75: back into the queue" in log.read_text()

    cluster.wait(job, lambda: steps(rough) > kept, "to go on")
    cluster.call("scontrol", "requeue", job)
    cluster.wait_for_restart(job, 2)
    assert newest(rough) > kept
    kept = newest(rough)
    assert f"stopped after step {kept}, kept in" in log.read_text()

    cluster.wait(job, lambda: newest(rough) > kept, "a checkpoint by the way")
    cluster.kill_node("n2")
    cluster.wait(
        job, lambda: int(cluster.state(job)["Restarts"]) == 3, "to be put back after the node's death"
    )
    assert not (rough / "model").exists()
    cluster.start_node("n2")
    assert cluster.finish(job)["JobState"] == "COMPLETED", cluster.logs()

    weights, expected = (load_file(run / "model" / "weights.safetensors") for run in (rough, calm))
    assert all(torch.equal(weights[name], tensor) for name, tensor in expected.items())
    assert losses(rough) == losses(calm)


def test_a_model_is_trained_without_a_tracking_server_then_adapted_and_scored_in_jobs(
    cluster: Cluster, training: Path, tmp_path: Path
) -> None:
    values = yaml.safe_load(training.read_text())
    first, adapted, scores = (tmp_path / name for name in ("first", "adapted", "scores"))
    store, tracking = values["data"][0]["path"], values["tracking"]
    loop = {"steps": 4, "batch_size": 4, "micro_batch": 4}

    def job(name: str, **fields: object) -> str:
        """The number of a job that runs a stage with these fields, and those that all have."""
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump({"command": name, "tracking": tracking, **fields}))
        [number] = cluster.submit(file)
        return number

    # Nobody listens at this port.
    away = "tracking.uri=http://127.0.0.1:9"
    [number] = cluster.submit(training, f"output={first}", "loop.steps=10", away)
    assert cluster.finish(number)["JobState"] == "COMPLETED", cluster.logs()
    assert list(losses(first)) == [5, 10]

    number = job(
        "finetune", model=f"{first}/model", data={"path": store}, loop=loop, output=str(adapted), threads=1
    )
    assert cluster.finish(number)["JobState"] == "COMPLETED", cluster.logs()
    starts = {"split": "valid", "steps": 2}
    number = job(
        "evaluate", models={"adapted": f"{adapted}/model"}, store=store, starts=starts, output=str(scores)
    )
    assert cluster.finish(number)["JobState"] == "COMPLETED", cluster.logs()
    assert (scores / "scores.json").exists()

    # The same command, with a server: it gets what it missed.
    go_on(cluster, training, f"output={first}", "loop.steps=10")
    assert sent(training, "first") == losses(first)


def test_the_tasks_of_an_array_share_a_sweep_and_the_last_to_end_concludes(
    cluster: Cluster, training: Path, calm: Path, tmp_path: Path
) -> None:
    values = yaml.safe_load(training.read_text())
    finetune = {
        "model": str(calm / "model"),
        "data": {"path": values["data"][0]["path"]},
        "loop": {"steps": 1, "batch_size": 2, "micro_batch": 2},
        "tracking": values["tracking"],
        "threads": 1,
    }
    small = {"scratch": True, "network": {"kind": "fno", "width": 2, "modes": [2, 2], "num_layers": 1}}
    sweep = {
        "command": "sweep",
        "output": str(tmp_path / "sweep"),
        "finetune": finetune,
        "baselines": {"small": {"changes": small}},
        "trajectories": [1],
        "seeds": [0],
        "starts": {"split": "valid", "steps": 1},
        "threads": 1,
    }
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(sweep))
    array, after = cluster.submit(file, "--parts", "2")
    # It would only do what failed tasks leave undone.
    cluster.call("scancel", after)
    for task in (f"{array}_1", f"{array}_2"):
        assert cluster.finish(task)["JobState"] == "COMPLETED", cluster.logs()
    found = json.loads((tmp_path / "sweep" / "efficiency.json").read_text())
    assert sorted(one["method"] for one in found["runs"]) == ["pretrained", "small"]
    logs = [log.read_text() for log in tmp_path.glob("sweep-*.log")]
    trained = [re.findall(r"^1/1  task/(\w+)/", log, re.MULTILINE) for log in logs]
    assert sorted(trained) == [["pretrained"], ["small"]]
