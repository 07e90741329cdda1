"""Submitting stages to SLURM: a job script beside the run's folder, filled in from `slurm/COMMAND.sbatch`."""

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
from pelagos.pipeline.runs.configuration import SHIPPED, apply_overrides, check, dump, find, read
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError, PelagosError

SCRIPTS = SHIPPED / "slurm"
WITH_SCRIPT = ("build", *PARALLEL, "evaluate")
"""Commands that have a job script in `slurm/`."""


class SubmitError(PelagosError, RuntimeError):
    """SLURM cannot be reached, or did not take a job."""


class SlurmConfig(Config):
    """What a job asks of SLURM; what is not given stays as the script in `slurm/` has it.

    Attributes:
        nodes: machines.
        tasks_per_node: processes on each, by default as many as GPUs.
        gpus: of each node.
        cpus_per_task: cores of each process.
        memory: of each node, such as 64G.
        time: limit, such as 1-12:00:00.
        partition: to run in.
        account: to charge.
        grace: seconds before the time limit at which training is told to stop and keep its step.
        parts: tasks of an array that share a build.
        chain: training jobs queued one behind the other, for clusters that do not requeue.
        options: any other option of sbatch by its long name, without a value for a flag.
        env: the file that prepares a job for the cluster, instead of `slurm/env.sh`.
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
        """Of a training job."""
        return (self.nodes or 1) * (self.tasks_per_node or self.gpus or 1)

    def directives(self) -> dict[str, str]:
        """Options of sbatch by their long names."""
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


def resolve(file: str, overrides: Sequence[str], options: Mapping[str, Any]) -> tuple[SlurmConfig, list[str]]:
    """What to ask of SLURM, from a YAML file, `slurm.KEY=VALUE` texts and options; and the other texts.

    Raises:
        ConfigError: it has errors.
        MissingFileError: there is no such file.
    """
    own = [text.removeprefix("slurm.") for text in overrides if text.startswith("slurm.")]
    others = [text for text in overrides if not text.startswith("slurm.")]
    values = apply_overrides(read(find(file)) if file else {}, own)
    values |= {key: value for key, value in options.items() if value is not None}
    return check(values, SlurmConfig, file or "slurm"), others


@dataclass(frozen=True)
class Job:
    """What a stage needs to run on a cluster.

    Attributes:
        command: of the stage.
        config: of the stage.
        slurm: what is asked of SLURM.
    """

    command: str
    config: Any
    slurm: SlurmConfig

    @property
    def base(self) -> Path:
        """Path of the run's folder or the store, to which `.sbatch`, `.yaml` and `-JOB.log` are appended."""
        path = self.config.path.with_suffix("") if self.command == "build" else self.config.output
        return Path(path).absolute()

    @property
    def script(self) -> Path:
        """Path of the job script."""
        return self.base.with_name(f"{self.base.name}.sbatch")

    def text(self) -> str:
        """The job script: the one in `slurm/`, with options, environment and arguments filled in."""
        environment = {
            "PELAGOS_ENV": self.slurm.env.absolute(),
            "PELAGOS_PYTHON": sys.executable,
            "PELAGOS_RUN": self.base,
        }
        exports = [f"export {name}={shlex.quote(str(value))}" for name, value in environment.items()]
        arguments = f"set -- {shlex.quote(str(self._resolved))}"
        template = (SCRIPTS / f"{self.command}.sbatch").read_text(encoding="utf-8")
        filled = ["", "# Filled in by `pelagos submit`.", *exports, arguments]
        return fill(template, {**self._directives(), **self.slurm.directives()}, filled)

    def submissions(self) -> list[list[str]]:
        """Options of each sbatch of the script, in order; `{before}` is the number of the job before."""
        if self.command == "build" and self.slurm.parts > 1:
            # Any end: the last job also does what a task has left undone.
            return [[f"--array=1-{self.slurm.parts}"], ["--dependency=afterany:{before}"]]
        return [[] for _ in range(self.slurm.chain)]

    def describe(self) -> str:
        """The script, and how it is submitted."""
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
        # What is edited while the job waits does not reach it.
        return self.base.with_name(f"{self.base.name}.yaml")

    def _directives(self) -> dict[str, str]:
        place = hashlib.sha256(str(self.base).encode()).hexdigest()[:6]
        common = {
            "job-name": f"{self.command}-{self.base.name}-{place}",
            "chdir": str(Path.cwd()),
            "output": f"{self.base}-%j.log",
        }
        # No two jobs of one name and user run at a time, so no two are ever at work in one run's folder.
        return {**common, "dependency": "singleton"} if self.command in PARALLEL else common


def plan(command: str, config: Any, slurm: SlurmConfig) -> Job:
    """The job of a stage, checked as far as that is possible before it runs.

    Raises:
        ConfigError: the stage has no job script.
        DataError: its batches cannot be dealt to its processes.
    """
    if command not in WITH_SCRIPT:
        raise ConfigError(f"submit: there is no job script for {command}, only for {', '.join(WITH_SCRIPT)}")
    if command in PARALLEL:
        config.loop.accumulation(slurm.processes)
    return Job(command, config, slurm)


def fill(template: str, directives: Mapping[str, str], setup: Sequence[str]) -> str:
    r"""A script with the values of `#SBATCH` lines replaced, those that it lacks added, and lines after them.

    >>> print(fill("#SBATCH --nodes=1\nrun", {"nodes": "2", "exclusive": ""}, ["cd x"]), end="")
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


def submit(job: Job) -> list[str]:
    """Write a job's files and hand it to SLURM; returns the numbers of what was queued.

    Raises:
        SubmitError: there is no sbatch, or it did not take the script.
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
    # NUMBER or NUMBER;CLUSTER, after whatever else a site's wrapper prints.
    found = re.search(r"^(\d+)(;\S+)?$", done.stdout, re.MULTILINE)
    if found is None:
        raise SubmitError(
            f"sbatch took {script}, but named no job: {done.stdout.strip()!r}; see squeue before another try"
        )
    return found[1]
