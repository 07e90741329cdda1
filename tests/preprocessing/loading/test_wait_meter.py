import time

from pelagos.preprocessing.loading.wait_meter import WaitMeter


def test_sleep_is_waiting_and_arithmetic_is_not() -> None:
    meter = WaitMeter()
    assert meter.waited
    seen = []
    for _ in range(20):  # another process may have the processor meanwhile
        with meter:
            sum(range(20_000))
        seen.append(meter.waited)
    assert not all(seen)
    with meter:
        time.sleep(0.01)
    assert meter.waited
