"""The demo: the whole pipeline on simulated archives, by the same stages as the single commands.

Stages run in the order of the configuration. One that was finished with the same configuration on
the same inputs is not run again; one that was interrupted continues.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import xarray as xr
from pydantic import Field

from pelagos.evaluation.forecast_zarr import read_forecasts
from pelagos.evaluation.score_summary import json_values
from pelagos.evaluation.verification import Evaluation
from pelagos.pipeline.cluster.launch import dying_with, run_processes
from pelagos.pipeline.runs import run_folder
from pelagos.pipeline.runs.commands import PARALLEL, STAGES, config_class, stage_module
from pelagos.pipeline.runs.configuration import dump, validate
from pelagos.pipeline.runs.progress import console
from pelagos.pipeline.stages import evaluate
from pelagos.pipeline.stages.demo_contract import DemoContract, Score
from pelagos.pipeline.stages.demo_report import demo_report
from pelagos.pipeline.stages.evaluate import EvaluateStage
from pelagos.pipeline.stages.refinement_costs import head_cost
from pelagos.pipeline.training.memory import PeakMemory
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError, PelagosError
from pelagos.preprocessing.files.durable import write_json

Values = dict[str, Any]
RESTARTED = ("simulate", "forecast")
"""Commands that start afresh after an interruption; the others continue or replace their own files."""


class DemoStage(Config):
    """The stages of the demo.

    Attributes:
        output: folder of the summary and the report; stages write below it, in one folder per seed.
        seed: of everything that is drawn at random.
        processes: how many train together, on this machine.
        stages: a stage, or a group of stages by name, in order. `{root}` and `{seed}` in texts stand
            for the folder of the seed and for the seed. The commands evaluate, refine, register and
            forecast have one stage each, see `DemoContract`.
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
    """Run all stages and conclude from them; returns the path of the report.

    Raises:
        ConfigError: a stage's configuration has errors, or the stages do not fit together; nothing was started.
    """
    steps = list(demo_steps(config))
    contract = DemoContract.of(step.config for step in steps)
    seconds: dict[str, float] = {}
    peak, digest = 0, ""
    for number, step in enumerate(steps, start=1):
        # Each stage's fingerprint includes those before it: a change reaches everything downstream.
        digest = run_folder.fingerprint(step.config, digest)
        record = run_folder.finished(_folder(config, step), digest)
        # Most steps have the name of their command.
        command = "" if step.name.startswith(step.command) else step.command
        state = f"done before, in {record['seconds']:.0f} s" if record else command
        console().print(f"[bold]{number:>2}/{len(steps)}  {step.name:<26}[/bold] {state}")
        if record is None:
            record = _run_step(config, step, digest)
        seconds[step.group] = seconds.get(step.group, 0.0) + record["seconds"]
        peak = max(peak, record["peak_memory_bytes"])
    runs = {step.name: step.config.output for step in steps if step.command in PARALLEL}
    return _conclude(config, contract, runs, seconds, peak)


def demo_steps(config: DemoStage) -> Iterator[Step]:
    """All stages, checked before the first one starts."""
    for group, values in config.stages.items():
        members = {"": values} if "command" in values else values
        for member, raw in members.items():
            name = f"{group}/{member}" if member else group
            command = raw.get("command")
            if command not in STAGES or command == "demo":
                raise ConfigError(f"stages.{name}: `command` must be a stage, not {command!r}")
            filled = _fill_placeholders(raw, {"{root}": str(config.root), "{seed}": str(config.seed)})
            yield Step(group, name, validate(filled, config_class(command), f"stages.{name}"))


def _fill_placeholders(value: Any, texts: Mapping[str, str]) -> Any:
    """The same tree with placeholders replaced; a text that was only {seed} becomes the number."""
    if isinstance(value, Mapping):
        return {key: _fill_placeholders(item, texts) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill_placeholders(item, texts) for item in value]
    if not isinstance(value, str):
        return value
    if value == "{seed}":
        return int(texts["{seed}"])
    for placeholder, text in texts.items():
        value = value.replace(placeholder, text)
    return value


def _folder(config: DemoStage, step: Step) -> Path:
    return config.root / "stages" / step.name.replace("/", "-")


def _run_step(config: DemoStage, step: Step, digest: str) -> dict[str, Any]:
    """Run a stage, after clearing away what another configuration of it left behind."""
    folder = _folder(config, step)
    started = folder / "started.json"
    changed = not started.is_file() or json.loads(started.read_text())["fingerprint"] != digest
    if changed or step.command in RESTARTED:
        for old in (*_outputs(step), folder):
            shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
    write_json(started, {"fingerprint": digest})
    file = folder / "config.yaml"
    file.write_text(dump(step.config), encoding="utf-8")
    begin = time.monotonic()
    with PeakMemory() as memory:
        if step.command in PARALLEL and config.processes > 1:
            run_processes([step.command, str(file)], config.processes)
        elif step.command == "forecast":
            _run_alone(step.command, file)
        else:
            stage_module(step.command).run(step.config)
    record = {"seconds": time.monotonic() - begin, "peak_memory_bytes": memory.peak}
    run_folder.finish(folder, digest, record)
    return record


def _outputs(step: Step) -> Iterator[Path]:
    """What a stage writes."""
    if step.command == "build":
        yield step.config.path
        yield step.config.path.with_name(f"{step.config.path.name}.building")
    elif step.config.output is not None:
        yield step.config.output


def _run_alone(command: str, file: Path) -> None:
    """Run a stage in a fresh process, to show that what is on disk carries the whole result."""
    code = subprocess.run(
        [sys.executable, "-P", "-m", "pelagos.pipeline", command, str(file)],
        check=False,
        preexec_fn=dying_with(os.getpid()),
    ).returncode
    if code != 0:
        raise PelagosError(f"the process of {command} {file} ended with {code}")


def _conclude(
    config: DemoStage, contract: DemoContract, runs: Mapping[str, Path], seconds: dict[str, float], peak: int
) -> Path:
    """Write the summary and the report."""
    begin = time.monotonic()
    evaluation = _read_evaluation(contract.evaluate)
    summary = _summarise_demo(contract, evaluation, {**seconds, "total": sum(seconds.values())}, peak)
    report = config.output / "report.html"
    demo_report(summary, contract, evaluation, runs).write(report)
    spent = time.monotonic() - begin
    summary["seconds"] = {**seconds, "report": spent, "total": sum(seconds.values()) + spent}
    summary = {"seed": config.seed, **summary}
    write_json(config.root / "summary.json", json_values(summary))
    write_json(config.output / "summary.json", json_values(summary))
    _print_summary(summary, report)
    return report


def _read_evaluation(config: EvaluateStage) -> Evaluation:
    """The evaluation, from what its stage has written."""
    return evaluate.evaluation_of(evaluate.begin(config))


def _summarise_demo(
    contract: DemoContract, evaluation: Evaluation, seconds: dict[str, float], peak: int
) -> dict[str, Any]:
    methods = evaluation.scores["methods"]
    identical = _same_forecasts(contract.forecast.output, contract.finetuned_forecasts)
    return {
        "seconds": seconds,
        "peak_memory_bytes": peak,
        "downstream": {
            score: {name: values[score] for name, values in methods.items()} for score in get_args(Score)
        },
        "refinement": json.loads((contract.refine.output / "refinement.json").read_text()),
        "registry": {**json.loads(contract.version_file.read_text()), "forecast_identical": identical},
    }


def _same_forecasts(one: Path, other: Path) -> bool:
    """Whether two forecasts have the same coordinates and, bit for bit, the same values."""
    first, second = read_forecasts(one).load(), read_forecasts(other).load()
    return bool(xr.Dataset.equals(first, second))


def _print_summary(summary: Mapping[str, Any], report: Path) -> None:
    one_step, rollout = summary["downstream"]["one_step"], summary["downstream"]["rollout"]
    refined, registry = summary["refinement"], summary["registry"]
    print(f"\n{'median relative L1':<24} {'one step':>9} {'rollout':>9}")
    for name in one_step:
        print(f"  {name:<22} {one_step[name]:9.4f} {rollout[name]:9.4f}")
    print(
        f"refinement               {refined['error_before']:.2e} -> {refined['error_after']:.2e} (relative L2)"
        f" in {refined['refine_seconds']:.3g} CPU s{head_cost(refined)};"
        f" the plain solver takes {refined['solver_seconds']:.3g} CPU s"
    )
    same = "identical" if registry["forecast_identical"] else "DIFFERENT"
    print(f"registry                 models:/{registry['name']}@{registry['alias']}, forecast {same}")
    minutes, gib = summary["seconds"]["total"] / 60, summary["peak_memory_bytes"] / 2**30
    print(f"cost                     {minutes:.1f} min, {gib:.1f} GiB at most")
    print(f"report                   {report.resolve()}")
