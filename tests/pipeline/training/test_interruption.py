"""Requests to stop: what counts as one, and that all processes follow at the same step."""

import os
import signal
import sys
import threading
from pathlib import Path

import processes
import pytest

from pelagos.pipeline.cluster import launch
from pelagos.pipeline.engine import distributed
from pelagos.pipeline.training.interruption import SIGNALS, stop_request
from pelagos.preprocessing.errors import StoppedError


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_a_request_inside_the_block_and_what_it_was_outside(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stop_request() as request:
        assert not request.agreed()
        os.kill(os.getpid(), number)
        assert request.agreed()
        assert request.reason == number.name
    assert signal.getsignal(number) == before


def stop_and_leave() -> None:
    """Stops on a signal, and is told to stop again on its way out."""
    try:
        with stop_request() as request:
            os.kill(os.getpid(), signal.SIGUSR1)
            if request.agreed():
                raise StoppedError("told to")
    except StoppedError as stopped:
        for number in (signal.SIGTERM, signal.SIGUSR1):
            os.kill(os.getpid(), number)
        sys.exit(stopped.exit_code)


def test_signals_do_not_cut_off_a_process_that_has_stopped_and_is_about_to_leave() -> None:
    team = processes.Team(Path(__file__), "stop_and_leave", 1, {})
    output = team.join()
    assert team.codes == [StoppedError.exit_code], output


def test_an_interrupt_that_ends_processes_before_they_train_is_no_fault_of_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    program.write_text('#!/bin/sh\n[ "$RANK" = 1 ] || kill -INT $PPID\nexit 130\n')
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(KeyboardInterrupt):
        launch.run_processes(["pretrain"], 2)


def test_a_second_interrupt_does_not_wait() -> None:
    with stop_request():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_thread_takes_no_signals_and_does_not_fail() -> None:
    seen = []

    def work() -> None:
        with stop_request() as request:
            seen.append(request.agreed())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]


def stop_one(folder: str) -> None:
    """Steps until all agree to stop, which only process 1 was asked to after its third step."""
    distributed.start()
    step, rank = 0, distributed.rank()
    with stop_request() as request:
        while True:
            step += 1
            if rank == 1 and step == 3:
                os.kill(os.getpid(), signal.SIGUSR1)
            if request.agreed():
                break
    Path(folder, str(rank)).write_text(f"{step} {request.reason}")
    distributed.stop()


def test_all_processes_stop_at_the_same_step_when_one_is_asked(tmp_path: Path) -> None:
    processes.run(Path(__file__), "stop_one", 3, {"folder": str(tmp_path)})
    texts = [(tmp_path / str(rank)).read_text() for rank in range(3)]
    assert texts == ["3 another process", "3 SIGUSR1", "3 another process"]
