"""SlurmWorkers: workers in jobs of SLURM, which dask-jobqueue submits, for builds started on a login node."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, NonNegativeInt, PositiveInt, Tag

from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError


class SlurmWorkers(Config):
    """Dask workers in jobs of SLURM.

    Attributes:
        jobs: number of jobs.
        processes: workers in each job, each on a core of its own.
        memory: memory of each job.
        time: time limit of each job; another one writes a shard that it cuts off.
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
        with SLURMCluster(
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
            scheduler_options={"dashboard": False, "dashboard_address": ":0"},
            silence_logs=logging.ERROR,
        ) as cluster:
            cluster.scale(jobs=self.jobs)
            yield cluster


def _form(value: Any) -> str:
    return "number" if isinstance(value, int | str) else "slurm"


# Discriminated by form, so that an error is about the form that was meant and not about both.
Workers = Annotated[
    Annotated[NonNegativeInt, Tag("number")] | Annotated[SlurmWorkers, Tag("slurm")], Discriminator(_form)
]
