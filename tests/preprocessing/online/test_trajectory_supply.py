"""The supply: most urgent first, in batches, and nothing is kept that nobody holds."""

import time
from collections.abc import Iterator, Sequence
from threading import Event, Timer
from typing import Any

import numpy as np
import pytest

from pelagos.preprocessing.errors import DataError, PelagosError
from pelagos.preprocessing.online import trajectory_supply
from pelagos.preprocessing.online.producer import Trajectory
from pelagos.preprocessing.online.simulation import Simulation
from pelagos.preprocessing.online.trajectory_supply import TrajectorySupply

WAVES = Simulation.model_validate(
    {"equation": {"kind": "wave"}, "shape": [8, 8], "interval": 0.1, "batch": 2}
)


class InstantProducer:
    """Makes trajectories of their own number as soon as its gate is open."""

    seconds = 0.5
    tasks: list[list[int]]
    gate: Event
    failure: Exception | None

    def __init__(self, simulation: Simulation) -> None:
        pass

    def simulate(self, numbers: Sequence[int]) -> list[Trajectory]:
        self.tasks.append(list(numbers))
        self.gate.wait(10)
        if self.failure:
            raise self.failure
        fields = np.zeros((1, 1, 1, 1), np.float32)
        return [Trajectory(fields + number, fields[0], np.array([float(number)])) for number in numbers]

    def kill(self) -> None:
        self.gate.set()

    def close(self) -> None:
        pass


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> type[InstantProducer]:
    gate = Event()
    gate.set()
    kind = type("Producer", (InstantProducer,), {"tasks": [], "gate": gate, "failure": None})
    monkeypatch.setattr(trajectory_supply, "Producer", kind)
    return kind


@pytest.fixture
def supply(producer: Any) -> Iterator[TrajectorySupply]:
    one = TrajectorySupply(WAVES, 1)
    yield one
    one.close()


def eventually(holds: Any) -> bool:
    end = time.monotonic() + 10
    while not holds() and time.monotonic() < end:
        time.sleep(0.001)
    return bool(holds())


def test_what_is_read_comes_first_and_what_is_ahead_waits_for_a_batch(
    producer: type[InstantProducer], supply: TrajectorySupply
) -> None:
    producer.gate.clear()
    supply.keep(0, held=[5, 6], coming=[7, 8])
    assert eventually(lambda: producer.tasks == [[5, 6]])
    mine = supply.request([9, 9])
    producer.gate.set()
    assert supply.get(9).scalars.tolist() == [9.0]
    assert [request.number for request in mine] == [9]
    # 8 alone is no batch; with 10 it is one.
    assert eventually(lambda: supply.simulated == 4)
    supply.keep(0, held=[5, 6], coming=[8, 10])
    assert eventually(lambda: supply.simulated == 6)
    assert producer.tasks == [[5, 6], [9, 7], [8, 10]]
    assert supply.count() == (2, 2)
    assert supply.seconds == 0.5


def test_what_nobody_holds_is_forgotten_and_made_again(
    producer: type[InstantProducer], supply: TrajectorySupply
) -> None:
    held = supply.request([1])
    first = supply.get(1)
    assert supply.get(1) is first
    del held
    assert eventually(lambda: not supply._requests)
    again = supply.get(1)
    assert again is not first
    assert np.array_equal(again.state, first.state)
    assert producer.tasks == [[1], [1]]


def test_a_failure_reaches_everyone_who_waits(
    producer: type[InstantProducer], supply: TrajectorySupply
) -> None:
    producer.failure = DataError("trajectory 3 is not finite")
    for number in (3, 4):
        with pytest.raises(DataError, match="trajectory 3 is not finite"):
            supply.get(number)


def test_a_wait_ends_when_all_are_let_go(producer: type[InstantProducer], supply: TrajectorySupply) -> None:
    producer.gate.clear()
    Timer(0.05, supply.release).start()
    with pytest.raises(PelagosError, match="trajectory 3 is no longer waited for"):
        supply.get(3)


def test_nothing_starts_before_the_first_request_or_after_the_end(
    producer: type[InstantProducer], supply: TrajectorySupply
) -> None:
    assert supply.seconds == 0
    supply.close()
    with pytest.raises(PelagosError, match="no longer waited for"):
        supply.get(0)
    assert producer.tasks == []
