"""Submit: a stage as a job on SLURM, with a script made from `slurm/COMMAND.sbatch`."""

import hashlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, PositiveInt, field_validator

from pelagos.pipeline.runs.commands import PARALLEL
from pelagos.pipeline.runs.configuration import (
    SHIPPED,
    apply_overrides,
    dump,
    find_config,
    read_yaml,
    validate,
)
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError, PelagosError

SCRIPTS = SHIPPED / "slurm"
WITH_SCRIPT = ("build", *PARALLEL, "evaluate", "sweep")
"""Commands that have a job script in `slurm/`."""
SHARED = ("build", "evaluate", "sweep")
"""Commands that the tasks of an array can share."""


class SubmitError(PelagosError, RuntimeError):
    """SLURM cannot be reached, or refused a job."""


class SlurmConfig(Config):
    """What a job asks of SLURM; the script in `slurm/` has the defaults of everything that is not given.

    Attributes:
        nodes: the number of machines.
        tasks_per_node: processes on each machine, by default one for each GPU.
        gpus: GPUs of each machine.
        cpus_per_task: cores of each process.
        memory: memory of each machine, such as 64G.
        time: the time limit, such as 1-12:00:00.
        partition: the partition to run in.
        account: the account to charge.
        grace: time before the limit at which training is asked to write a checkpoint and stop [s].
        parts: the number of array tasks that share a build, an evaluation or a sweep.
        chain: the number of training jobs queued one after the other, for clusters that do not requeue.
        options: any other options of sbatch by their long names; null for a flag.
        env: the shell file that prepares a job for the cluster, instead of `slurm/env.sh`.
    """

    nodes: PositiveInt | None = None
    tasks_per_node: PositiveInt | None = None
    gpus: PositiveInt | None = None
    cpus_per_task: PositiveInt | None = None
    memory: str | None = None
    time: str | None = Field(None, pattern=r"^(\d+-)?\d+(:\d+){0,2}$")
    partition: str | None = None
    account: str | None = None
    grace: PositiveInt | None = None
    parts: PositiveInt = 1
    chain: PositiveInt = 1
    options: dict[str, str | int | None] = Field(default_factory=dict)
    env: Path = SCRIPTS / "env.sh"

    @field_validator("time", mode="before")
    @classmethod
    def _time_is_text(cls, value: Any) -> Any:
        if isinstance(value, int):
            raise ValueError('YAML reads this as a number; write a text such as "12:00:00", or use --time')
        return value

    @property
    def processes(self) -> int:
        """The processes of a training job."""
        return (self.nodes or 1) * (self.tasks_per_node or self.gpus or 1)

    def directives(self) -> dict[str, str]:
        """The options of sbatch that are given, by their long names."""
        values: dict[str, Any] = {
            "nodes": self.nodes,
            "ntasks-per-node": self.tasks_per_node or self.gpus,
            "gpus-per-node": self.gpus,
            "cpus-per-task": self.cpus_per_task,
            "mem": self.memory,
            "time": self.time,
            "partition": self.partition,
            "account": self.account,
            "signal": self.grace and f"USR1@{self.grace}",
        }
        given = {name: str(value) for name, value in values.items() if value is not None}
        return given | {name: "" if value is None else str(value) for name, value in self.options.items()}


def read_slurm_config(
    file: str, overrides: Sequence[str], options: Mapping[str, Any]
) -> tuple[SlurmConfig, list[str]]:
    """What to ask of SLURM, and the overrides that are for the stage.

    Args:
        file: a YAML file, or an empty text.
        overrides: `KEY=VALUE` texts, of which `slurm.KEY=VALUE` are for SLURM.
        options: values of the command line, which win over both; None where not given.

    Raises:
        ConfigError: a value is in error.
        MissingFileError: there is no such file.
    """
    # The most specific wins: options over overrides over the file.
    own = [text.removeprefix("slurm.") for text in overrides if text.startswith("slurm.")]
    others = [text for text in overrides if not text.startswith("slurm.")]
    values = apply_overrides(read_yaml(find_config(file)) if file else {}, own)
    values |= {key: value for key, value in options.items() if value is not None}
    return validate(values, SlurmConfig, file or "slurm"), others


@dataclass(frozen=True)
class SlurmJob:
    """A stage as a job on a cluster.

    Attributes:
        command: the stage's command.
        config: the stage's configuration.
        slurm: what the job asks of SLURM.
        options: the command's options in the job.
    """

    command: str
    config: Any
    slurm: SlurmConfig
    options: Sequence[str] = ()

    @property
    def base(self) -> Path:
        """The path of the run or store; the job's files add `.sbatch`, `.yaml` and `-JOB.log` to it."""
        path = self.config.path.with_suffix("") if self.command == "build" else self.config.output
        return Path(path).absolute()

    @property
    def script(self) -> Path:
        """The path of the job script."""
        return self.base.with_name(f"{self.base.name}.sbatch")

    def text(self) -> str:
        """The script in `slurm/` with options, environment and arguments filled in."""
        environment = {
            "PELAGOS_ENV": self.slurm.env.absolute(),
            "PELAGOS_PYTHON": sys.executable,
            "PELAGOS_RUN": self.base,
        }
        exports = [f"export {name}={shlex.quote(str(value))}" for name, value in environment.items()]
        arguments = shlex.join(["set", "--", str(self._resolved), *self.options])
        template = (SCRIPTS / f"{self.command}.sbatch").read_text(encoding="utf-8")
        filled = ["", "# Filled in by `pelagos submit`.", *exports, arguments]
        return fill_script(template, {**self._directives(), **self.slurm.directives()}, filled)

    def submissions(self) -> list[list[str]]:
        """Options of each call of sbatch, in order; `{before}` stands for the number of the job before."""
        if self.command in SHARED and self.slurm.parts > 1:
            # After any end: the last job also does what failed tasks have left undone, which no other task could.
            return [[f"--array=1-{self.slurm.parts}"], ["--dependency=afterany:{before}"]]
        return [[] for _ in range(self.slurm.chain)]

    def describe(self) -> str:
        """The script, and the calls of sbatch that submit it."""
        options = [" ".join(options).format(before="JOB") for options in self.submissions()]
        calls = "".join(f"#   sbatch {given} {self.script}\n" for given in options)
        return f"{self.text()}\n# To be submitted by\n{calls}"

    def write(self) -> None:
        """Write the script and the resolved configuration."""
        self.base.parent.mkdir(parents=True, exist_ok=True)
        self._resolved.write_text(dump(self.config), encoding="utf-8")
        self.script.write_text(self.text(), encoding="utf-8")

    @property
    def _resolved(self) -> Path:
        # A copy: edits while the job waits in the queue must not reach it.
        return self.base.with_name(f"{self.base.name}.yaml")

    def _directives(self) -> dict[str, str]:
        # Runs in different places may have the same name.
        place = hashlib.sha256(str(self.base).encode()).hexdigest()[:6]
        common = {
            "job-name": f"{self.command}-{self.base.name}-{place}",
            "chdir": str(Path.cwd()),
            "output": f"{self.base}-%j.log",
        }
        # SLURM runs one job of a name and user at a time, so no two ever write to the same run folder.
        return {**common, "dependency": "singleton"} if self.command in PARALLEL else common


def plan_job(command: str, config: Any, slurm: SlurmConfig, options: Sequence[str] = ()) -> SlurmJob:
    """The job of a stage, checked as far as possible before it is queued.

    Raises:
        ConfigError: the stage has no job script, or its processes cannot share samples.
        DataError: its batches cannot be dealt evenly to its processes.
    """
    if command not in WITH_SCRIPT:
        raise ConfigError(f"submit: there is no job script for {command}, only for {', '.join(WITH_SCRIPT)}")
    if command in PARALLEL:
        config.accumulation(slurm.processes)
    return SlurmJob(command, config, slurm, options)


def fill_script(template: str, directives: Mapping[str, str], setup: Sequence[str]) -> str:
    r"""A script with `#SBATCH` lines replaced or added, followed by lines of setup.

    >>> print(fill_script("#SBATCH --nodes=1\nrun", {"nodes": "2", "exclusive": ""}, ["cd x"]), end="")
    #SBATCH --nodes=2
    #SBATCH --exclusive
    cd x
    run
    """
    lines = template.splitlines()
    end = 1 + max(number for number, line in enumerate(lines) if line.startswith("#SBATCH"))
    missing, head = dict(directives), []
    for line in lines[:end]:
        name = line.removeprefix("#SBATCH --").partition("=")[0]
        known = line.startswith("#SBATCH --") and name in missing
        head.append(_directive(name, missing.pop(name)) if known else line)
    added = [_directive(name, value) for name, value in missing.items()]
    return "\n".join([*head, *added, *setup, *lines[end:]]) + "\n"


def _directive(name: str, value: str) -> str:
    return f"#SBATCH --{name}={shlex.quote(value)}" if value else f"#SBATCH --{name}"


def submit(job: SlurmJob) -> list[str]:
    """Write a job's files and queue it; returns the numbers of the jobs.

    Raises:
        SubmitError: there is no sbatch, or it refused the script.
    """
    if shutil.which("sbatch") is None:
        raise SubmitError(
            "there is no sbatch on this machine: submit on a login node of the cluster, "
            "or look at the script with --dry-run"
        )
    job.write()
    numbers: list[str] = []
    for options in job.submissions():
        before = numbers[-1] if numbers else ""
        numbers.append(_sbatch([option.format(before=before) for option in options], job.script))
    return numbers


def _sbatch(options: Sequence[str], script: Path) -> str:
    command = ["sbatch", "--parsable", *options, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SubmitError(f"sbatch did not take {script}: {done.stderr.strip()}")
    # NUMBER or NUMBER;CLUSTER, possibly after what a site's wrapper prints.
    found = re.search(r"^(\d+)(;\S+)?$", done.stdout, re.MULTILINE)
    if found is None:
        raise SubmitError(
            f"sbatch took {script}, but named no job: {done.stdout.strip()!r}; see squeue before another try"
        )
    return found[1]
