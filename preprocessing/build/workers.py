"""Workers: where the parts of a build are written: here, in more processes, on a Dask cluster or in jobs of SLURM.

Each worker opens the source for itself; no data pass through Dask's graph.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import dask
from distributed import CancelledError, Client, Future, KilledWorker, LocalCluster, as_completed
from distributed.comm import CommClosedError
from distributed.security import Security

from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.partition import Part
from pelagos.preprocessing.build.plan import Plan, make_plan
from pelagos.preprocessing.build.slurm_workers import NO_DASHBOARD, NO_PAGES, JobReplacer, SlurmWorkers
from pelagos.preprocessing.build.source_checksums import keep_checksum, keep_checksums, without_checksum
from pelagos.preprocessing.build.source_records import SourceRecord
from pelagos.preprocessing.build.write_part import is_written, recorded_initial_digests, write_part
from pelagos.preprocessing.errors import ConfigError, DataError, TemporaryError

_PATIENCE = 15  # seconds to wait for a scheduler
_SUBMITTED = 4096
"""Tasks that a scheduler holds at a time: enough for any cluster, where all 1.5 million of a large build would take it
minutes and gigabytes before the first one starts."""
_LOOK, _NO_WORKER = 5.0, 86400.0
"""How often to look for workers, and how long to wait for one [s]: jobs may queue for a night, but not for ever."""
Call = Callable[[], None]
Progress = Callable[[int, int], None]
"""Is called with the number of finished parts and of all parts."""


def write_parts(
    root: Path,
    plan: Plan,
    numbers: Sequence[int],
    progress: Progress,
    sources: Sequence[SourceRecord] = (),
) -> None:
    """Write the parts of these numbers that are missing; stop at the first error and keep what is finished.

    Args:
        root: the folder in which the store grows.
        plan: of the build.
        numbers: positions of the parts in the plan.
        progress: called with the number of finished parts.
        sources: those whose checksums are computed first and kept, where they are not known yet.
    """
    if not plan.config.workers and not plan.config.scheduler:
        keep_checksums(root, sources)
        progress(0, len(numbers))
        for done, number in enumerate(numbers, start=1):
            _write_if_missing(root, plan, plan.parts[number])
            progress(done, len(numbers))
        return
    arguments = (root, plan.config.model_dump_json(), plan.fingerprint)
    with _client(plan.config, root.parent) as (client, keep_up):
        hashing = ((keep_checksum, root, record) for record in without_checksum(root, sources))
        for _ in _run(client, keep_up, plan.config, hashing):
            pass
        progress(0, len(numbers))
        writing = ((write_on_worker, *arguments, number) for number in numbers)
        for done in _run(client, keep_up, plan.config, writing):
            progress(done, len(numbers))


def _run(
    client: Client, keep_up: Call, config: BuildConfig, tasks: Iterable[tuple[Any, ...]]
) -> Iterator[int]:
    """Run calls on workers and give the number of those that have ended; the first error is raised."""
    waiting = iter(tasks)

    def submit(most: int) -> list[Future]:
        # Not pure: a scheduler may remember a task of an earlier build, whose files may be gone since.
        return [client.submit(*task, pure=False) for task in islice(waiting, most)]

    running = as_completed(submit(_SUBMITTED))
    for done, future in enumerate(_ended(running, client, keep_up), start=1):
        _finish(future, config)
        yield done
        running.update(submit(1))


def _ended(running: as_completed, client: Client, keep_up: Call) -> Iterator[Future]:
    """The futures as they end.

    Raises:
        TemporaryError: for a day there has been no worker that could end one.
    """
    looked = seen = time.monotonic()
    while running.count():
        if running.has_ready():
            yield next(running)
            looked = seen = time.monotonic()
            continue
        time.sleep(0.02)
        if (now := time.monotonic()) - looked < _LOOK:
            continue
        keep_up()
        looked = now
        if client.scheduler_info()["workers"]:
            seen = now
        elif now - seen > _NO_WORKER:
            raise TemporaryError(
                f"no worker has been there for {_NO_WORKER / 3600:.0f} h; see why none starts: the same command goes on"
            )


def _finish(future: Future, config: BuildConfig) -> None:
    """Raise what went wrong with a part.

    Raises:
        TemporaryError: its workers died, or the scheduler did.
    """
    try:
        future.result()
    except (KilledWorker, CancelledError, CommClosedError) as error:
        how = "the workers or their scheduler are gone"
        if isinstance(error, KilledWorker):
            how = f"{error.allowed_failures + 1} workers died at the same shard, perhaps for want of memory"
        raise TemporaryError(
            f"{config.dataset}: {how}; finished shards are kept: the same command continues, if need be with fewer"
            " workers"
        ) from error


def _write_if_missing(root: Path, plan: Plan, part: Part) -> None:
    if not is_written(root, plan, part):
        write_part(root, plan, part)


def write_on_worker(root: Path, config: str, fingerprint: str, number: int) -> None:
    """Write one part in another process, which opens the source for itself.

    Args:
        root: the folder in which the store grows.
        config: of the build, as JSON.
        fingerprint: of the plan that the number belongs to.
        number: position of the part in the plan.

    Raises:
        DataError: this process makes another plan of the same configuration, or does not see the folder.
    """
    plan = worker_plan(root, config)
    if plan.fingerprint != fingerprint:
        raise DataError(
            f"{plan.config.dataset}: a worker makes another plan: its archive or its version of Pelagos differs; "
            "let all machines use the same"
        )
    if not root.is_dir():
        raise DataError(
            f"{root}: a worker does not see this folder; it must be on a file system that all workers share"
        )
    _write_if_missing(root, plan, plan.parts[number])


@lru_cache(maxsize=1)
def worker_plan(root: Path, config: str) -> Plan:
    """The plan of a build, made once a process: opening an archive may take longer than writing a shard."""
    parsed = BuildConfig.model_validate_json(config)
    return make_plan(parsed, initial_digests=recorded_initial_digests(root, parsed))


def _connected(scheduler: str) -> Client:
    try:
        return Client(scheduler, timeout=_PATIENCE)
    except OSError as error:
        raise ConfigError(
            f"scheduler: no answer from {scheduler}; is `dask scheduler` running there? ({error})"
        ) from error


@contextmanager
def _client(config: BuildConfig, logs: Path) -> Iterator[tuple[Client, Call]]:
    """Give a client of the workers, and what is to be called now and then so that there are as many as asked for."""
    if config.scheduler:
        with _connected(config.scheduler) as client:
            yield client, _nothing
        return
    if isinstance(config.workers, SlurmWorkers):
        with config.workers.cluster(logs) as cluster, Client(cluster) as client:
            yield client, JobReplacer(cluster, config.workers.jobs).replace
        return
    with local_cluster(config.workers) as cluster, Client(cluster) as client:
        yield client, _nothing


def _nothing() -> None:
    """Leave workers to whoever looks after them: a nanny of Dask, or the user."""


@contextmanager
def local_cluster(processes: int) -> Iterator[LocalCluster]:
    """Give workers on this machine, which only this process and they themselves can talk to."""
    # Whoever reaches a scheduler or a worker makes it run code. Other users reach ports of 127.0.0.1 as well, so each
    # side shows a certificate whose key exists only in the memory of these processes.
    security = Security.temporary()
    with (
        dask.config.set(NO_PAGES),
        LocalCluster(
            n_workers=processes,
            threads_per_worker=1,
            processes=True,
            security=security,
            scheduler_kwargs=NO_DASHBOARD,
            silence_logs=logging.ERROR,
        ) as cluster,
    ):
        yield cluster
