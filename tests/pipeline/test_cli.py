"""The command line: how each end of a command is told, to people and to the scripts that start it."""

import errno
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

import pelagos
from pelagos.pipeline.cli import FAULT, INTERRUPTED, app, reported
from pelagos.pipeline.runs.commands import STAGES
from pelagos.pipeline.training.loss_guard import BadStepError
from pelagos.preprocessing.errors import (
    ConfigError,
    DamagedFileError,
    MissingFileError,
    StoppedError,
    TemporaryError,
)


def raised_from(cause: Exception) -> Exception:
    error = DamagedFileError("a checkpoint could not be written")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ConfigError("a.yaml: seed"), ConfigError.exit_code, "error: a.yaml: seed"),
        (MissingFileError("no store"), MissingFileError.exit_code, "error: no store"),
        (BadStepError("step 3: the loss is not finite"), 65, "error: step 3: the loss"),
        (
            StoppedError("stopped after step 3"),
            StoppedError.exit_code,
            "stopped after step 3; the same command",
        ),
        (FileNotFoundError(errno.ENOENT, "No such file", "x.nc"), 1, "error: x.nc: No such file"),
        (
            OSError(errno.ENOSPC, "No space left", "a.bin"),
            74,
            "error: a.bin: No space left; finished work is",
        ),
        (RuntimeError("I/O error: Input/output error (os error 5)"), 74, "error: I/O error"),
        (TemporaryError("MLflow does not answer"), 74, "error: MLflow does not answer"),
        (raised_from(OSError(errno.EIO, "I/O")), 74, "error: a checkpoint could not be written"),
        (OSError("of no kind"), FAULT, "Traceback"),
        (KeyboardInterrupt(), INTERRUPTED, "interrupted; finished work is kept"),
        (ZeroDivisionError("ours"), FAULT, "ZeroDivisionError: ours"),
    ],
)
def test_an_error_ends_the_command_with_its_code_and_message(
    error: BaseException,
    code: int,
    text: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(typer.Exit) as end, reported():
        raise error
    assert end.value.exit_code == code
    told = capsys.readouterr().err
    assert text in told
    assert ("Traceback" in told) == (code == FAULT)


def test_what_stopped_is_told_by_one_process_of_several(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(typer.Exit), reported():
        raise StoppedError("stopped")
    assert capsys.readouterr().err == ""


def test_help_lists_every_stage_with_what_it_does() -> None:
    # A promotion is about versions, and listed with what else is done with them.
    pages = (["--help"], ["models", "--help"])
    shown = "".join(CliRunner().invoke(app, page, env={"COLUMNS": "200"}).output for page in pages)
    for name, stage in STAGES.items():
        assert name in shown
        assert stage.help in shown


def test_help_of_a_command_without_a_configuration_is_its_page() -> None:
    runner = CliRunner()
    page = runner.invoke(app, ["help", "inspect"]).output
    assert "--json" in page
    assert "Say what is in a store" in page
    assert "pelagos help evaluate" in runner.invoke(app, ["evaluate", "--help"]).output
    assert "did you mean pretrain?" in runner.invoke(app, ["help", "pretrian"]).output


def test_the_version_is_told() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"pelagos {pelagos.__version__}\n"


def test_help_is_shown_without_torch() -> None:
    code = """if True:
        import sys
        from pelagos.pipeline.cli import app
        try:
            app(["--help"])
        except SystemExit:
            print("LOADED", sorted({"torch", "mlflow", "deepspeed", "xarray", "zarr"} & set(sys.modules)))
    """
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "LOADED []" in shown
