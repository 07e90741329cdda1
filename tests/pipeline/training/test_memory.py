"""Peaks of memory, of a process and of all that it starts."""

import subprocess
import sys
import time

import numpy as np

from pelagos.pipeline.training.memory import PeakMemory, peak_memory


def test_the_peak_of_a_process_is_its_own_and_stays_when_memory_is_given_back() -> None:
    program = """if True:
        from pelagos.pipeline.training.memory import peak_memory
        seen = [peak_memory()]
        held = bytearray(300_000_000)
        seen.append(peak_memory())
        del held
        print(*seen, peak_memory())
    """
    held = np.ones(50_000_000)
    before, during, after = map(int, subprocess.check_output([sys.executable, "-c", program]).split())
    assert before < held.nbytes
    assert during > before + 250_000_000
    # The kernel's counts lag by some pages.
    assert after > during - 1_000_000
    assert peak_memory() > held.nbytes


def test_the_peak_of_a_command_includes_the_processes_that_it_starts() -> None:
    with PeakMemory(0.01) as alone:
        time.sleep(0.05)
    program = "import time; held = bytearray(200_000_000); print(flush=True); time.sleep(60)"
    with (
        PeakMemory(0.01) as memory,
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as child,
    ):
        assert child.stdout is not None
        child.stdout.readline()
        deadline = time.monotonic() + 10
        while memory.peak < alone.peak + 150_000_000 and time.monotonic() < deadline:
            time.sleep(0.01)
        child.kill()
    assert memory.peak > alone.peak + 150_000_000
