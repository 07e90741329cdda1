"""Producers: what they hand over is what the simulation gives, whatever its shape."""

import numpy as np
import pytest

from pelagos.preprocessing.fields.field_options import FieldOptions
from pelagos.preprocessing.fields.select_fields import select_fields
from pelagos.preprocessing.online import producer
from pelagos.preprocessing.online.producer import Producer, Trajectory, TrajectoryShape
from pelagos.preprocessing.online.simulation import Simulation, simulate_trajectories, template

WAVES = Simulation.model_validate(
    {"equation": {"kind": "wave"}, "shape": [8, 4], "num_frames": 3, "interval": 1 / 64, "batch": 3}
)


def agrees(made: Trajectory, number: int) -> bool:
    fields = select_fields(simulate_trajectories(WAVES, [number]), FieldOptions())
    return (
        np.array_equal(made.state, fields.read(slice(0, 1), slice(0, 3))[0])
        and np.array_equal(made.static, fields.read_static(slice(0, 1))[0])
        and made.scalars.tolist() == [values[0] for values in fields.params.values()]
    )


def test_the_shape_counts_all_fields() -> None:
    shape = TrajectoryShape.of(select_fields(template(WAVES), FieldOptions()))
    assert shape == TrajectoryShape(times=3, channels=2, static=1, height=8, width=4)
    assert shape.frames == 7
    memory = np.zeros(2 * shape.bytes, np.uint8)
    arrays = shape.arrays(memory)
    assert arrays.shape == (2, 7, 8, 4)
    assert np.shares_memory(arrays, memory)


@pytest.mark.usefixtures("one_thread")
def test_what_is_handed_over_is_the_simulation_and_stays() -> None:
    one = Producer(WAVES)
    try:
        first = one.simulate([4, 2])
        assert one.seconds > 0
        [other] = one.simulate([7])
        # The second task has overwritten the memory that the first came in.
        assert all(agrees(made, number) for made, number in zip([*first, other], [4, 2, 7], strict=True))
    finally:
        one.close()


def test_what_the_child_computes_is_laid_out_for_the_parent() -> None:
    shape = TrajectoryShape.of(select_fields(template(WAVES), FieldOptions()))
    memory = np.zeros(3 * shape.bytes, np.uint8)
    answer = producer._start({"simulation": WAVES.model_dump(mode="json"), "shape": vars(shape)}, memory)
    told = answer({"trajectories": [5, 1]})
    assert len(told["scalars"]) == 2
    arrays = shape.arrays(memory)
    assert not arrays[2].any()
    made = Trajectory(arrays[1][:6].reshape(3, 2, 8, 4), arrays[1][6:], np.array(told["scalars"][1]))
    assert agrees(made, 1)
