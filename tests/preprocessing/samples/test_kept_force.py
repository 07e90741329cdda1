import numpy as np
import pytest
import torch

from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.samples.augment_config import ForceWave
from pelagos.preprocessing.samples.kept_force import keeping_moves
from tests.preprocessing.memory_store import memory_store
from tests.preprocessing.samples.test_augmentation import equation, relative_residual, samples_of, transformed

ALL = np.array([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)])
SINE = ForceWave(component="force_x", waves_y=2)


def square(size: int = 16) -> Grid:
    axis = np.arange(size) / size
    return Grid("cartesian", axis, axis, ("periodic", "periodic"), ("periodic", "periodic"))


def test_a_sine_along_y_may_be_rolled_along_x_and_by_its_wave_length() -> None:
    moves = keeping_moves([SINE], square(), ALL[:1], (16, 16))
    assert sorted(set(moves[:, 3].tolist())) == [0, 8]
    assert sorted(set(moves[:, 4].tolist())) == list(range(16))
    # sin(2 y) e_x is what it was when both axes are reversed, or x alone with half a wave length along y.
    turns = {tuple(move[:3]): move[3] % 8 for move in keeping_moves([SINE], square(), ALL, (16, 1)).tolist()}
    assert set(turns) == {(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1)}
    assert turns[0, 0, 1] == 4


def test_the_force_of_fno_may_move_along_its_diagonal() -> None:
    # 0.1 (sin 2 pi (x + y) + cos 2 pi (x + y)), on the vorticity.
    waves = [ForceWave(component="vorticity_source", waves_y=1, waves_x=1, phase=phase) for phase in (0, 90)]
    moves = keeping_moves(waves, square(8), ALL, (8, 8))
    shifts = moves[(moves[:, :3] == 0).all(1), 3:]
    assert sorted(map(tuple, shifts.tolist())) == [(n, -n % 8) for n in range(8)]
    # The exchange of axes keeps x + y and turns a vorticity's sign: half a wave length turns it back.
    exchanged = moves[(moves[:, :3] == [1, 0, 0]).all(1), 3:]
    assert set(exchanged.sum(1) % 8) == {4}


@pytest.mark.parametrize("direction", ["x", "y"])
def test_flow_under_a_force_that_is_no_channel_obeys_its_equation(direction: str) -> None:
    pde = equation("kolmogorov")
    start = pde.initial(0, range(12), (16, 16))
    axis = torch.arange(16, dtype=torch.float64) / 16
    wave = torch.cos(4 * torch.pi * axis)
    force = torch.zeros(1, 2, 16, 16, dtype=torch.float64)
    force[0, "xy".index(direction)] = wave[:, None] if direction == "x" else wave[None, :]
    frames = [start.fields]
    for _ in range(2):
        frames.append(pde.propagate(frames[-1], force, start.scalars, 0.04, 0.005))
    store = memory_store(
        torch.stack(frames, 1).numpy(),
        pde.variables,
        pde.grid((16, 16)),
        0.04,
        scalars=(pde.scalars, start.scalars.numpy()),
    )
    along = {"waves_y": 2} if direction == "x" else {"waves_x": 2}
    stated = {"component": f"force_{direction}", "phase": 90, **along}
    dataset = samples_of(store, 2, force=[stated])
    assert dataset.augmentation is not None
    assert dataset.augmentation.names == (
        "rolls along y",
        "rolls along x",
        "reversals of y",
        "reversals of x",
    )
    parts = transformed(dataset, list(range(12)))
    assert relative_residual(pde, {**parts, "static": force.expand(12, -1, -1, -1)}) < 2e-4
    # All symmetries of the plane would not keep it.
    wrong = transformed(samples_of(store, 2), list(range(12)))
    assert relative_residual(pde, {**wrong, "static": force.expand(12, -1, -1, -1)}) > 0.01


def test_what_a_standing_force_forbids_is_refused() -> None:
    store = memory_store(
        np.random.default_rng(0).normal(size=(1, 2, 1, 8, 8)),
        equation("navier_stokes").variables[:1],
        square(8),
    )
    with pytest.raises(ConfigError, match="neither galilean nor scale"):
        samples_of(store, force=[SINE.model_dump()], scale=2.0, equation="navier_stokes")
