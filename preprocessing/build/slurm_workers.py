"""SlurmWorkers: workers in jobs of SLURM, which dask-jobqueue submits, for builds started on a login node."""

import logging
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, NonNegativeInt, PositiveInt, Tag

from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError

NO_DASHBOARD = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
"""Options of a scheduler. It opens the port in any case: None would be 8787, and without a host all interfaces."""
NO_PAGES: dict[str, list[str]] = {
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}
"""Dask's configuration by which these ports have nothing to show."""


class SlurmWorkers(Config):
    """Dask workers in jobs of SLURM.

    Attributes:
        jobs: number of jobs.
        processes: workers in each job, each on a core of its own.
        memory: memory of each job.
        time: time limit of each job; another job takes its place, and writes a shard that it cuts off.
        partition: partition to run in.
        account: account to charge.
        interface: network interface by which workers and scheduler reach each other, such as ib0.
        options: any other options of sbatch by their long names; null for a flag without a value.
    """

    kind: Literal["slurm"]
    jobs: PositiveInt = 1
    processes: PositiveInt = 1
    memory: str = "8GB"
    time: str = "04:00:00"
    partition: str | None = None
    account: str | None = None
    interface: str | None = None
    options: dict[str, str | int | None] = Field(default_factory=dict)

    @contextmanager
    def cluster(self, logs: Path) -> Iterator[Any]:
        """Give a SLURMCluster with its jobs queued; they end with the block.

        Args:
            logs: folder for the output of the jobs, visible to all nodes.

        Raises:
            ConfigError: dask-jobqueue or sbatch is missing.
        """
        import dask  # here, since every configuration of a build imports this module

        try:
            from dask_jobqueue import SLURMCluster
        except ImportError as error:
            raise ConfigError(
                "workers.kind=slurm needs dask-jobqueue: pip install 'pelagos[slurm]'"
            ) from error
        if shutil.which("sbatch") is None:
            raise ConfigError(
                "workers.kind=slurm: there is no sbatch on this machine; start the build on a login node"
            )
        options = [
            f"--{name}" if value is None else f"--{name}={value}" for name, value in self.options.items()
        ]
        with (
            # The keys have to reach the nodes, and only files do: in a folder of mode 0700, while the jobs last.
            TemporaryDirectory(prefix=".pelagos-keys-", dir=logs) as keys,
            dask.config.set(NO_PAGES),
            SLURMCluster(
                queue=self.partition,
                account=self.account,
                cores=self.processes,  # one thread each: a part is written by threads of its own
                processes=self.processes,
                memory=self.memory,
                walltime=self.time,
                interface=self.interface,
                job_name="pelagos-build",
                log_directory=str(logs),
                job_extra_directives=options,
                scheduler_options=NO_DASHBOARD,
                security=_security_in(Path(keys)),
                python=f"{shlex.quote(sys.executable)} -P",  # no module from the folder that the job starts in
                # They leave a little before the time limit: a worker that is killed counts against the shard that it
                # was writing, and the fourth time ends the build. Not all at once, so that others can take over.
                worker_extra_args=["--no-dashboard", "--lifetime", f"{_lifetime(self.time)}s"],
                job_script_prologue=["export DASK_DISTRIBUTED__WORKER__HTTP__ROUTES='[]'"],
                silence_logs=logging.ERROR,
            ) as cluster,
        ):
            cluster.scale(jobs=self.jobs)
            yield cluster


def _lifetime(limit: str) -> int:
    """How long a worker works within a time limit of SLURM [s]: all of it but a tenth, or five minutes.

    >>> _lifetime("04:00:00"), _lifetime("10"), _lifetime("1-12")
    (14100, 540, 129300)
    """
    days, _, clock = limit.rpartition("-")
    numbers = [int(number) for number in clock.split(":")]
    # Without days, one number is minutes and two are minutes and seconds; after days, the first is hours.
    units = (3600, 60, 1) if days or len(numbers) == 3 else (60, 1)
    seconds = 86400 * int(days or 0) + sum(
        number * unit for number, unit in zip(numbers, units, strict=False)
    )
    return seconds - min(seconds // 10, 300)


class JobReplacer:
    """Sees to it that a cluster of dask-jobqueue has as many jobs as it was asked for: it replaces none that ends."""

    def __init__(self, cluster: Any, jobs: int) -> None:
        """Look after a cluster that has been scaled to so many jobs."""
        self._cluster, self._jobs = cluster, jobs
        self._started: set[Any] = set()

    def replace(self) -> None:
        """Submit a new job for each whose workers have been there and are gone; jobs that queue are left alone."""
        self._cluster.sync(self._forget_ended)
        self._cluster.scale(jobs=self._jobs)

    async def _forget_ended(self) -> None:
        cluster = self._cluster
        present = {str(worker["name"]) for worker in cluster.scheduler_info["workers"].values()}
        for name, spec in list(cluster.worker_spec.items()):
            workers = {f"{name}{suffix}" for suffix in spec.get("group", [""])}
            if workers & present:
                self._started.add(name)
            elif name in self._started:
                self._started.remove(name)
                del cluster.worker_spec[name]
                if (job := cluster.workers.pop(name, None)) is not None:
                    await job.close()


def _security_in(folder: Path) -> Any:
    """A certificate for one build and its key, in files that the jobs read."""
    from distributed.security import Security

    made = Security.temporary()
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    certificate.write_text(made.tls_client_cert)
    key.write_text(made.tls_client_key)
    roles = [f"tls_{role}" for role in ("client", "scheduler", "worker")]
    files = {f"{role}_cert": str(certificate) for role in roles} | {f"{role}_key": str(key) for role in roles}
    return Security(require_encryption=True, tls_ca_file=str(certificate), **files)


def _form(value: Any) -> str:
    return "number" if isinstance(value, int | str) else "slurm"


# Discriminated by form, so that an error is about the form that was meant and not about both.
Workers = Annotated[
    Annotated[NonNegativeInt, Tag("number")] | Annotated[SlurmWorkers, Tag("slurm")], Discriminator(_form)
]
