import pytest

from pelagos.pipeline.runs.progress import Pace, bar


class Clock:
    """Tells the times given, one after the other."""

    def __init__(self, *times: float) -> None:
        self.times = iter(times)

    def __call__(self) -> float:
        return next(self.times)


def test_pace_tells_the_rate_and_the_time_left() -> None:
    pace = Pace(Clock(0, 2, 4))
    assert pace(0, 130) == ""
    assert pace(5, 130) == "2.5/s, 0:00:50 left"
    assert pace(10, 130) == "2.5/s, 0:00:48 left"


def test_of_slow_work_the_time_of_a_unit_is_told() -> None:
    pace = Pace(Clock(0, 50))
    assert [pace(0, 4), pace(1, 4)] == ["", "50 s each, 0:02:30 left"]


def test_what_was_done_before_says_nothing_of_the_pace() -> None:
    pace = Pace(Clock(100, 101, 141))
    assert [pace(900, 1000), pace(900, 1000), pace(910, 1000)] == ["", "", "0.244/s, 0:06:09 left"]


def test_the_pace_is_that_of_late() -> None:
    # A hundred quick units, then slow ones.
    pace = Pace(Clock(*(0.01 * i for i in range(100)), *(10.0 * i for i in range(1, 41))))
    told = [pace(i, 150) for i in range(140)]
    assert told[98].startswith("100/s")
    assert told[-1] == "0.1/s, 0:01:50 left"


def test_where_nobody_watches_a_line_is_printed_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    with bar("build", 0) as show:
        for done in range(4):
            show(done, "a note" if done == 3 else "", total=3)
    first, last = capsys.readouterr().err.splitlines()
    assert first == "build        0/3"
    assert last.startswith("build        3/3  ")
    assert last.endswith("/s  a note")


def test_a_bar_for_other_ranks_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with bar("build", 2, active=False) as show:
        show(2)
    assert capsys.readouterr().err == ""
