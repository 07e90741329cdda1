import socket
import ssl
import tracemalloc
import urllib.error
import urllib.request
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
import psutil
import pytest
from analytic_source import configuration, contents
from archive_source import empty_archive, large
from distributed import CancelledError, Client, KilledWorker, LocalCluster
from distributed.comm import CommClosedError

from pelagos.preprocessing.assumptions import assume
from pelagos.preprocessing.build import workers
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.build.group_writer import write_skeleton
from pelagos.preprocessing.build.plan import make_plan
from pelagos.preprocessing.build.store_coding import StoreCoding
from pelagos.preprocessing.errors import ConfigError, TemporaryError
from pelagos.preprocessing.fields.field_reader import FieldReader


def local_cluster(processes: bool) -> LocalCluster:
    quiet = {"dashboard": False, "dashboard_address": ":0"}
    return LocalCluster(
        n_workers=2, threads_per_worker=2, processes=processes, protocol="tcp://", scheduler_kwargs=quiet
    )


# Trajectories 3, 4 and 5 begin as 0, 1 and 2, with other viscosities.
AGAIN = {"repeats": 3, "scalars": True, "names": ["velocity_x", "velocity_y", "density"]}
TOGETHER = {"kind": "trajectories", "valid": 2, "test": 2, "group_by": ["initial_condition"]}


@pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])
def test_a_dask_scheduler_makes_the_same_bytes(
    rich: dict[str, Any],
    tmp_path: Path,
    undisturbed: dict[str, str],
    processes: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "_SUBMITTED", 2)  # fewer than there are parts: the rest follows one by one
    with local_cluster(processes) as cluster:
        path = build(configuration(tmp_path, rich, scheduler=cluster.scheduler_address))
    assert contents(path) == undisturbed


def test_strict_refuses_what_workers_assume_and_keeps_their_shards(
    rich: dict[str, Any], tmp_path: Path, undisturbed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a worker meets while it reads is known to none but itself, until its record comes back."""
    read = FieldReader.read

    def assuming(self: FieldReader, trajectories: slice, times: slice) -> Any:
        assume("missing_values", "velocity_x", f"found in trajectory {trajectories.start}")
        return read(self, trajectories, times)

    monkeypatch.setattr(FieldReader, "read", assuming)
    with local_cluster(processes=False) as cluster:
        options: dict[str, Any] = {"scheduler": cluster.scheduler_address, "strict": True}
        with pytest.raises(ConfigError, match=r"found in trajectory .* more like it"):
            build(configuration(tmp_path, rich, **options))
        growing = tmp_path / "analytic/analytic-1.zarr.building"
        written = {file: file.stat().st_mtime_ns for file in growing.glob("state/c/**/*") if file.is_file()}
        assert written
        path = build(configuration(tmp_path, rich, accept=["missing_values"], **options))
    assert {file.stat().st_mtime_ns for file in path.glob("state/c/**/*") if file.is_file()} == set(
        written.values()
    )
    assert {name for name, digest in contents(path).items() if undisturbed[name] != digest} <= {
        "zarr.json",
        "_build/manifest.json",
    }


def test_workers_parts_and_later_runs_share_the_initial_conditions_that_were_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = build(configuration(tmp_path / "whole", AGAIN, splits=TOGETHER))
    build(configuration(tmp_path, AGAIN, splits=TOGETHER, part="1/3"))

    def fail(fields: Any) -> Any:
        raise AssertionError("they are known")

    monkeypatch.setattr("pelagos.preprocessing.build.plan.read_initial_digests", fail)
    build(configuration(tmp_path, AGAIN, splits=TOGETHER, part="2/3"))
    with local_cluster(processes=False) as cluster:
        path = build(configuration(tmp_path, AGAIN, splits=TOGETHER, scheduler=cluster.scheduler_address))
    assert contents(path) == contents(whole)


def peak_of_a_task(folder: Path, trajectories: int, **options: Any) -> float:
    """Memory that one task needs, from the opening of the source on, in units of what it writes."""
    path = empty_archive(folder / f"2D_CFD_{trajectories}_periodic.hdf5", trajectories)
    config = large(path, shard_bytes=32 << 20, **options)
    plan = make_plan(config)
    root = folder / f"root-{trajectories}"
    write_skeleton(root, plan, coding := StoreCoding.drawn(plan))
    (root / "_build/shards").mkdir(parents=True)
    if coding is not None:
        coding.write(root)
    arguments = (root, config.model_dump_json(), plan.fingerprint)
    workers.write_on_worker(*arguments, len(plan.parts) - 1)  # imports, and what is made once a process
    workers.worker_plan.cache_clear()
    tracemalloc.start()
    workers.write_on_worker(*arguments, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return float(peak / (np.dtype(plan.state.dtype).itemsize * np.prod(plan.state.shard)))


@pytest.mark.parametrize(
    ("options", "most"),
    [
        ({"codec": "none"}, 1.2),
        ({"codec": "blosc-lz4", "bits": {"density": 7}}, 1.2),
        ({"regrid": {"shape": [96, 80]}}, 1.2),
        ({"dtype": "float16"}, 3.2),
    ],
    ids=["plain", "compressed", "regridded", "in_16_bits"],
)
def test_a_task_needs_little_more_memory_than_its_shard(
    tmp_path: Path, options: dict[str, Any], most: float
) -> None:
    peaks = [peak_of_a_task(tmp_path, trajectories, **options) for trajectories in (40, 400)]
    assert most - 0.2 < peaks[0] <= most
    # Flat as the archive grows tenfold; how many small buffers of the writing threads live at once varies.
    assert peaks[1] == pytest.approx(peaks[0], abs=0.03)


@pytest.mark.parametrize(
    ("death", "told"),
    [
        (KilledWorker("part", cast(Any, None), 3), "4 workers died at the same shard"),
        (CommClosedError("lost"), "the workers or their scheduler are gone"),
        (CancelledError("part", "scheduler"), "the workers or their scheduler are gone"),
    ],
)
def test_workers_that_die_are_told_as_what_may_pass(
    tmp_path: Path, rich: dict[str, Any], monkeypatch: pytest.MonkeyPatch, death: Exception, told: str
) -> None:
    class Dying:
        """A client of workers that have died."""

        def submit(self, *args: Any, **kwargs: Any) -> "Dying":
            return self

        def result(self) -> None:
            raise death

    monkeypatch.setattr(workers, "_client", lambda config, logs: nullcontext((Dying(), None)))
    monkeypatch.setattr(workers, "as_completed", iter)
    monkeypatch.setattr(workers, "_ended", lambda running, client, keep_up: running)
    with pytest.raises(TemporaryError, match=f"analytic: {told}.*; finished shards are kept"):
        build(configuration(tmp_path, rich, workers=2))


def test_a_build_does_not_wait_for_ever_for_workers(
    tmp_path: Path, rich: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_LOOK", 0.05)
    monkeypatch.setattr(workers, "_NO_WORKER", 0.1)
    quiet = {"dashboard": False, "dashboard_address": ":0"}
    with (
        LocalCluster(n_workers=0, processes=False, protocol="tcp://", scheduler_kwargs=quiet) as cluster,
        pytest.raises(TemporaryError, match=r"no worker has been there.*the same command goes on"),
    ):
        build(configuration(tmp_path, rich, scheduler=cluster.scheduler_address))


def listening() -> set[tuple[str, int]]:
    """The addresses and ports on which this process and its children wait for others."""
    me = psutil.Process()
    return {
        (connection.laddr.ip, connection.laddr.port)
        for process in (me, *me.children(recursive=True))
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }


def _speak_without_certificate(host: str, port: int) -> None:
    """Greet whoever waits there; raises an error where they hang up."""
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    stranger.check_hostname, stranger.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((host, port)) as plain, stranger.wrap_socket(plain) as talk:
        talk.settimeout(5)
        talk.send(b"x" * 64)
        if not talk.recv(1024):
            raise ConnectionError


def test_workers_of_this_machine_answer_nobody_else() -> None:
    before = listening()
    with workers.local_cluster(1) as cluster, Client(cluster) as client:
        assert client.submit(int, "7").result() == 7
        assert {host for host, _ in listening() - before} == {"127.0.0.1"}
        address = cluster.scheduler_address
        assert address.startswith("tls://127.0.0.1:")
        [worker] = client.scheduler_info()["workers"]
        for one in (address, worker):
            host, port = one.removeprefix("tls://").split(":")
            with pytest.raises((ssl.SSLError, ConnectionError)):
                _speak_without_certificate(host, int(port))
        page = cluster.scheduler.http_server
        port = next(iter(page._sockets.values())).getsockname()[1]
        for path in ("/status", "/health", "/info/main/workers.html", "/json/identity.json", "/metrics"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5)
