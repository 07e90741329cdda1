import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pelagos.models.refinement.released_loss import AdvectiveVorticity
from pelagos.preprocessing.physics.crank_nicolson import euler_step, rk2_step, rk4_step

Step = Callable[[Tensor, Callable[[Tensor], Tensor], Tensor, float], Tensor]


@pytest.mark.parametrize(("step", "order"), [(euler_step, 1), (rk2_step, 2), (rk4_step, 4)])
def test_the_order_of_the_explicit_part(step: Step, order: int) -> None:
    def at_one(num_steps: int) -> float:
        u = torch.tensor([1.0], dtype=torch.float64)
        for _ in range(num_steps):
            u = step(u, lambda v: -v * v, torch.zeros(1, dtype=torch.float64), 1 / num_steps)
        return float(u)

    errors = [abs(at_one(n) - 0.5) for n in (8, 16)]
    assert math.log2(errors[0] / errors[1]) > order - 0.2


@pytest.mark.parametrize("step", [euler_step, rk2_step, rk4_step])
def test_the_linear_part_is_of_second_order_and_stable(step: Step) -> None:
    def after(rate: float, dt: float, num: int) -> float:
        u = torch.tensor([1.0], dtype=torch.float64)
        for _ in range(num):
            u = step(u, torch.zeros_like, torch.tensor([rate], dtype=torch.float64), dt)
        return float(u)

    errors = [abs(after(-1.0, 1 / n, n) - math.exp(-1)) for n in (8, 16)]
    assert math.log2(errors[0] / errors[1]) > 1.9
    assert abs(after(-1e6, 1.0, 1)) < 1


def test_steps_are_those_of_torch_cfd(shared: Path) -> None:
    with np.load(shared / "fixtures" / "spectral_refiner" / "solver_steps.npz") as file:
        # Its x and y are exchanged here, which changes the sign of vorticities.
        arrays = {name: -torch.from_numpy(file[name])[0] for name in file}
    plain = AdvectiveVorticity(1e-3, arrays["f"])
    start = plain.forward(arrays["w0"])
    once = euler_step(start, plain.nonlinear, plain.symbol, 1e-2)
    found = {
        "imexcn_dt1e-2": plain.backward(once),
        "imexcn_psi": plain.backward(plain.stream_function(start)),
        "imexcn_res": plain.residual(arrays["w0"], plain.backward((once - start) / 1e-2)),
    }
    # Its solver's filter keeps rows -11 to 9 of 32, one of which has no partner.
    rows, columns = torch.zeros(32, 17, dtype=torch.float64), slice(0, 11)
    rows[:10, columns] = rows[-11:, columns] = 1
    dragged = AdvectiveVorticity(1e-3, arrays["f"], drag=0.1, kept=rows)
    for name, step in (("rk4cn", rk4_step), ("rk2cn", rk2_step)):
        modes = start
        for _ in range(5):
            modes = step(modes, dragged.nonlinear, dragged.symbol, 1e-2)
        found[f"{name}_5steps_dt1e-2_drag0.1"] = dragged.backward(modes)
    for name, values in found.items():
        assert (values - arrays[name]).norm() < 1e-9 * arrays[name].norm(), name
