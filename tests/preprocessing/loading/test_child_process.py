"""Child processes: what they answer, how they fail, and that none is left."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Timer

import psutil
import pytest

from pelagos.preprocessing.errors import ConfigError, is_temporary
from pelagos.preprocessing.loading.child_process import ChildEndedError, ChildError, ChildProcess
from pelagos.preprocessing.loading.shared_memory import SharedMemory

CHILD = """
import os
import time

from pelagos.preprocessing.loading.child_process import serve
from pelagos.preprocessing.errors import ConfigError

def start(setup, memory):
    def answer(task):
        if task["do"] == "refuse":
            raise ConfigError("data: no such thing")
        if task["do"] == "read":
            raise OSError(5, "Input/output error")
        if task["do"] == "fail":
            return {"quotient": 1 / 0}
        if task["do"] == "exit":
            os._exit(7)
        if task["do"] == "sleep":
            time.sleep(600)
        memory[:] += setup["step"]
        return {"sum": int(memory.sum()), "pid": os.getpid()}
    return answer

if __name__ == "__main__":
    serve(start)
"""
PARENT = """
from pelagos.preprocessing.loading.child_process import ChildProcess
from pelagos.preprocessing.loading.shared_memory import SharedMemory

child = ChildProcess("child", "counts", SharedMemory(4), {"step": 2})
print(child.ask({"do": "add"})["pid"], flush=True)
child.ask({"do": "sleep"})
"""


@pytest.fixture(scope="module", autouse=True)
def module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A module called `child` that children can run."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "child.py").write_text(CHILD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder), prepend=":")
        yield


@pytest.fixture
def memory() -> SharedMemory:
    return SharedMemory(4)


@contextmanager
def started(memory: SharedMemory, module: str = "child") -> Iterator[ChildProcess]:
    process = ChildProcess(module, "counts", memory, {"step": 2})
    try:
        yield process
    finally:
        process.kill()
        process.close()


@pytest.fixture
def child(memory: SharedMemory) -> Iterator[ChildProcess]:
    with started(memory) as process:
        yield process


def test_tasks_are_answered_in_order_through_memory_of_both(
    child: ChildProcess, memory: SharedMemory
) -> None:
    assert [child.ask({"do": "add"})["sum"] for _ in range(3)] == [8, 16, 24]
    assert memory.values.tolist() == [6, 6, 6, 6]
    memory.values[:] = 0
    assert child.ask({"do": "add"})["sum"] == 8
    assert child.close() == 0


def test_an_error_keeps_its_class_and_the_child_goes_on(
    capfd: pytest.CaptureFixture[str], memory: SharedMemory
) -> None:
    with started(memory) as child:  # here, where its standard error is captured
        with pytest.raises(ConfigError, match=r"^data: no such thing$"):
            child.ask({"do": "refuse"})
        assert child.ask({"do": "add"})["sum"] == 8
    assert capfd.readouterr().err == ""


def test_a_mistake_of_ours_is_named_and_its_traceback_shown(
    capfd: pytest.CaptureFixture[str], memory: SharedMemory
) -> None:
    with started(memory) as child, pytest.raises(ChildError, match=r"^ZeroDivisionError: division by zero$"):
        child.ask({"do": "fail"})
    assert 'return {"quotient": 1 / 0}' in capfd.readouterr().err


def test_a_child_that_ends_by_itself_is_told_with_its_status(child: ChildProcess) -> None:
    for _ in range(2):  # the second time it is gone already
        with pytest.raises(
            ChildEndedError, match="a process that counts ended with status 7, perhaps"
        ) as caught:
            child.ask({"do": "exit"})
        assert caught.value.status == 7


def test_a_kill_from_another_thread_ends_the_wait(child: ChildProcess) -> None:
    Timer(0.05, child.kill).start()
    with pytest.raises(ChildEndedError) as caught:
        child.ask({"do": "sleep"})
    assert caught.value.status == -9


def test_a_child_that_cannot_start_is_told(memory: SharedMemory) -> None:
    with (
        started(memory, "no_such_module") as child,
        pytest.raises(ChildEndedError, match="ended with status 1"),
    ):
        child.ask({"do": "add"})


def test_a_child_ends_with_its_parent_in_the_midst_of_a_task() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        time.sleep(0.05)  # the second task is under way
        assert child.is_running()
        parent.kill()
        with suppress(psutil.NoSuchProcess):
            child.wait(10)
    assert not child.is_running()


def test_an_error_of_the_system_keeps_its_number(
    memory: SharedMemory, capfd: pytest.CaptureFixture[str]
) -> None:
    with started(memory) as child, pytest.raises(ChildError, match="Input/output error") as caught:
        child.ask({"do": "read"})
    assert is_temporary(caught.value)
    assert capfd.readouterr().err == ""
