"""Workers in jobs of SLURM, which dask-jobqueue submits: for builds that are started on a login node."""

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
        jobs: how many.
        processes: workers in each, one a core.
        memory: of each job.
        time: limit of each job; a shard that it cuts off is done by another.
        partition: to run in.
        account: to charge.
        interface: network interface by which workers and scheduler reach each other, such as ib0.
        options: any other option of sbatch by its long name, without a value for a flag.
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
        """A SLURMCluster with the jobs queued, which end with the block.

        Args:
            logs: folder of the jobs' output, visible to all nodes.

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
            raise ConfigError("workers.kind=slurm: there is no sbatch on this machine; start on a login node")
        options = [
            f"--{name}" if value is None else f"--{name}={value}" for name, value in self.options.items()
        ]
        with SLURMCluster(
            queue=self.partition,
            account=self.account,
            cores=self.processes,
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


# Told apart first, so that an error speaks of the form that was meant.
Workers = Annotated[
    Annotated[NonNegativeInt, Tag("number")] | Annotated[SlurmWorkers, Tag("slurm")], Discriminator(_form)
]
