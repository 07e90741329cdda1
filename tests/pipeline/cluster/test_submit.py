"""SlurmJob scripts: what they ask of SLURM, and what is said where they cannot be submitted."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pelagos.pipeline.cli import app
from pelagos.pipeline.cluster import submit
from pelagos.pipeline.runs.configuration import load
from pelagos.pipeline.stages.pretrain import PretrainStage


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["submit", *arguments])


def directives(script: str) -> dict[str, str]:
    return dict(re.findall(r"^#SBATCH --([a-z-]+)=?(.*)$", script, re.MULTILINE))


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def pretend(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Put an sbatch that runs this shell text first on the path."""
    (folder / "bin").mkdir()
    program = folder / "bin" / "sbatch"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")


@pytest.mark.parametrize("command", submit.WITH_SCRIPT)
def test_scripts_are_valid_shell_and_ask_nothing_twice(command: str) -> None:
    script = submit.SCRIPTS / f"{command}.sbatch"
    for file in (script, submit.SCRIPTS / "env.sh"):
        subprocess.run(["bash", "-n", file], check=True)
    names = re.findall(r"^#SBATCH --([a-z-]+)", script.read_text(), re.MULTILINE)
    assert len(names) == len(set(names))


def test_what_is_asked_for_replaces_what_the_script_says() -> None:
    result = invoke(
        "pretrain/wfde5", "--nodes", "2", "--time", "1-00:00:00", "slurm.options.qos=high", "slurm.grace=30",
        "slurm.options.exclusive=", "--dry-run",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found = directives(result.stdout)
    asked = {"nodes": "2", "time": "1-00:00:00", "signal": "USR1@30", "qos": "high", "exclusive": ""}
    assert asked.items() <= found.items()
    untouched = directives((submit.SCRIPTS / "pretrain.sbatch").read_text())
    assert found["ntasks-per-node"] == untouched["ntasks-per-node"]
    assert "requeue" in found


def test_a_task_has_a_gpu() -> None:
    script = invoke("pretrain/wfde5", "--gpus", "2", "--dry-run").stdout
    assert directives(script)["ntasks-per-node"] == directives(script)["gpus-per-node"] == "2"


def test_options_go_over_values_and_values_over_the_file(tmp_path: Path) -> None:
    Path("cluster.yaml").write_text("nodes: 4\npartition: gpu\naccount: physics\n")
    overrides = ["slurm.nodes=3", "slurm.partition=long", "loop.steps=5"]
    found, others = submit.read_slurm_config("cluster.yaml", overrides, {"nodes": 2, "time": None})
    assert (found.nodes, found.partition, found.account) == (2, "long", "physics")
    assert others == ["loop.steps=5"]


def test_two_jobs_are_never_at_work_in_one_folder() -> None:
    one, same, other = (
        directives(invoke("pretrain/wfde5", f"output=runs/{name}", "--dry-run").stdout) for name in "aab"
    )
    assert one["dependency"] == "singleton"
    assert one["job-name"] == same["job-name"] != other["job-name"]


def test_the_job_runs_the_configuration_as_it_was_when_submitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(tmp_path, monkeypatch, "echo 'welcome to the cluster'; echo '17;far'")
    result = invoke("pretrain/wfde5", "loop.steps=5", "output=runs/mine")
    assert result.exit_code == 0, result.output
    assert "queued 17" in result.stdout
    script = Path("runs/mine.sbatch").read_text()
    assert f"set -- {tmp_path}/runs/mine.yaml" in script
    resolved = load("runs/mine.yaml", [], PretrainStage)
    assert resolved == load("pretrain/wfde5", ["loop.steps=5", "output=runs/mine"], PretrainStage)


def test_a_build_in_parts_is_an_array_and_a_job_that_completes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(tmp_path, monkeypatch, 'echo "$@" >>calls; wc -l <calls')
    dry = invoke("build/wfde5", "--parts", "4", "--dry-run").stdout
    assert re.findall(r"^#   sbatch (--\S+) /", dry, re.MULTILINE) == [
        "--array=1-4",
        "--dependency=afterany:JOB",
    ]
    assert not Path("calls").exists()
    result = invoke("build/wfde5", "--parts", "4")
    assert "queued 1, 2" in result.stdout
    script = tmp_path / "stores/wfde5/wfde5-1.sbatch"
    assert Path("calls").read_text().splitlines() == [
        f"--parsable --array=1-4 {script}",
        f"--parsable --dependency=afterany:1 {script}",
    ]


@pytest.mark.parametrize("config", ["evaluate/wfde5", "sweep/forced_flow"])
def test_an_evaluation_or_a_sweep_in_parts_is_an_array_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str
) -> None:
    pretend(tmp_path, monkeypatch, 'echo "$@" >>calls; wc -l <calls')
    dry = invoke(config, "--parts", "3", "--dry-run").stdout
    assert re.findall(r"^#   sbatch (--\S+) /", dry, re.MULTILINE) == [
        "--array=1-3",
        "--dependency=afterany:JOB",
    ]
    assert 'part="${SLURM_ARRAY_TASK_ID:-1}/${SLURM_ARRAY_TASK_COUNT:-1}"' in dry


def test_a_chain_is_as_many_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(tmp_path, monkeypatch, "echo x >>calls; wc -l <calls")
    assert "queued 1, 2, 3" in invoke("pretrain/wfde5", "slurm.chain=3").stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("echo 'invalid account' >&2; exit 1", r"sbatch did not take .*pretrain\.sbatch: invalid account"),
        ("echo 'Submitted, good luck'", r"named no job: 'Submitted, good luck'; see squeue"),
    ],
)
def test_an_answer_without_a_job_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    pretend(tmp_path, monkeypatch, text)
    result = invoke("pretrain/wfde5")
    assert result.exit_code == 1
    assert re.search(message, result.stderr)


def test_without_slurm_the_command_says_where_to_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    result = invoke("pretrain/wfde5")
    assert result.exit_code == 1
    assert "there is no sbatch on this machine" in result.stderr
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo"], "there is no job script for demo"),
        (["pretrain/wfde5", "--nodes", "3"], "cannot be dealt to 3 process"),
        (["pretrain/wfde5", "--nodes", "2", "optimizer.matrices=muon"], "zero_stage: 1 cuts matrices"),
        (["pretrain/wfde5", "slurm.nodse=2"], "nodse: unknown key; did you mean 'nodes'"),
        (["pretrain/wfde5", "slurm.time=1:00:00"], 'write a text such as "12:00:00"'),
        (["pretrain/wfde5", "--time", "an hour"], "time: String should match"),
        (["pretrain/wfde5", "lop.steps=2"], "lop: unknown key"),
    ],
)
def test_what_cannot_run_is_not_queued(arguments: list[str], message: str) -> None:
    result = invoke(*arguments, "--dry-run")
    assert result.exit_code in (1, 2)
    assert message in result.stderr
