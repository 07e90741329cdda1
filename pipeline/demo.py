"""The demo: the whole road on simulated archives, by the same stages as the single commands.

Stages run in the order of the configuration; one that was finished with the same configuration and
on the same inputs is not run again.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from pydantic import Field

from pelagos.pipeline import stage
from pelagos.pipeline.checkpoint import write_json
from pelagos.pipeline.cli import STAGES, config_class
from pelagos.pipeline.config import check, dump
from pelagos.pipeline.launch import run as launch
from pelagos.pipeline.memory import PeakMemory
from pelagos.pipeline.progress import console
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError

Values = dict[str, Any]
SEPARATE = ("forecast",)
"""Commands that the demo runs in a process of their own, to show that files alone carry the result."""


class DemoStage(Config):
    """The stages of the demo.

    Attributes:
        output: the summary and the report; stages write below it, in a folder a seed.
        seed: of everything that is drawn at random.
        processes: of training, on this machine.
        stages: stage or group of stages by name, in order. `{root}` and `{seed}` in texts stand for
            the folder of the seed and the seed.
    """

    command: Literal["demo"] = "demo"
    output: Path = Path("runs/demo")
    seed: int = Field(default=0, ge=0)
    processes: int = Field(default=2, gt=0)
    stages: dict[str, Values]

    @property
    def root(self) -> Path:
        """Where the stages of this seed write."""
        return self.output / f"seed-{self.seed}"


@dataclass(frozen=True)
class Step:
    """One stage of the demo: its group, its name, and its checked configuration."""

    group: str
    name: str
    config: Any

    @property
    def command(self) -> str:
        """The command that runs it."""
        return str(self.config.command)


def run(config: DemoStage) -> Path:
    """Walk the road; returns the path of the report.

    Raises:
        ConfigError: a stage's configuration has errors; nothing was started.
    """
    steps = list(_steps(config))
    seconds: dict[str, float] = {}
    digest = ""
    with PeakMemory() as memory:
        for number, step in enumerate(steps):
            digest = stage.fingerprint(step.config, digest)
            folder = config.root / "stages" / step.name.replace("/", "-")
            record = stage.finished(folder, digest)
            note = "done before" if record else ""
            console().print(f"[bold]{number + 1:>2}/{len(steps)}[/bold] {step.name:<24} {note}")
            if record is None:
                record = {"seconds": _timed(step, folder, config.processes), "peak_memory_bytes": memory.peak}
                stage.finish(folder, digest, record)
            seconds[step.group] = seconds.get(step.group, 0.0) + record["seconds"]
            memory.peak = max(memory.peak, record["peak_memory_bytes"])
        summary = _summary(config, seconds, memory)
    return _conclude(config, summary)


def _steps(config: DemoStage) -> Iterator[Step]:
    """All stages, checked before the first one starts."""
    for group, values in config.stages.items():
        members = {"": values} if "command" in values else values
        for member, raw in members.items():
            name = f"{group}/{member}" if member else group
            command = raw.get("command")
            if command not in STAGES or command == "demo":
                raise ConfigError(f"stages.{name}: `command` must be a stage, not {command!r}")
            filled = _fill(raw, {"{root}": str(config.root), "{seed}": str(config.seed)})
            yield Step(group, name, check(filled, config_class(command), f"stages.{name}"))


def _fill(value: Any, texts: Mapping[str, str]) -> Any:
    """The same tree with each placeholder replaced; a text that was only {seed} becomes its number."""
    if isinstance(value, Mapping):
        return {key: _fill(item, texts) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, texts) for item in value]
    if not isinstance(value, str):
        return value
    if value == "{seed}":
        return int(texts["{seed}"])
    for placeholder, text in texts.items():
        value = value.replace(placeholder, text)
    return value


def _timed(step: Step, folder: Path, processes: int) -> float:
    started = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "config.yaml"
    file.write_text(dump(step.config), encoding="utf-8")
    module = STAGES[step.command].module
    if step.command in ("pretrain", "finetune") and processes > 1:
        launch([step.command, str(file)], processes)
    elif step.command in SEPARATE:
        subprocess.run(
            [sys.executable, "-m", "pelagos.pipeline", step.command, str(file)], check=True, env=os.environ
        )
    else:
        import_module(f"pelagos.pipeline.{module}").run(step.config)
    return time.monotonic() - started
