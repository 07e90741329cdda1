"""Declared symmetries: changing a trajectory and advancing it commute."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from pelagos.preprocessing.physics.equation import Equation
from pelagos.preprocessing.physics.pde import PDE
from pelagos.preprocessing.physics.symmetry import AxisName
from pelagos.preprocessing.variables import keys

# Euler's finite volumes see the grid; what moves through it differs by their truncation error.
CASES: dict[str, tuple[dict[str, Any], float]] = {
    "navier_stokes": ({"tracer": True}, 0.05),
    "kolmogorov": ({"drag": 0.1}, 0.05),
    "burgers": ({}, 0.05),
    "korteweg_de_vries": ({}, 0.05),
    "kuramoto_sivashinsky": ({}, 1.0),
    "gray_scott": ({}, 10.0),
    "allen_cahn": ({}, 0.05),
    "wave": ({}, 0.03),
    "euler": ({"initial": ({"kind": "gaussians"},)}, 0.04),
}
GALILEAN_ERROR = {"euler": 0.1}
AXES: dict[AxisName, int] = {"y": -2, "x": -1}


@dataclass
class Case:
    """An equation with a state on a square grid, by the names of its fields and scalars."""

    pde: PDE
    values: dict[str, Tensor]
    duration: float

    @classmethod
    def of(cls, kind: str) -> "Case":
        options, duration = CASES[kind]
        pde: PDE = TypeAdapter[Any](Equation).validate_python({"kind": kind, **options}).build()
        state = pde.initial(0, [0, 1], (24, 24))
        values = dict(zip(keys(pde.variables), state.fields.unbind(1), strict=True))
        values |= dict(zip(keys(pde.static_variables), state.static.unbind(1), strict=True))
        return cls(pde, values | dict(zip(pde.scalars, state.scalars.unbind(1), strict=True)), duration)

    def advance(self, values: Mapping[str, Tensor], time: float = 1.0) -> dict[str, Tensor]:
        """The prognostic fields a duration later."""

        def stack(names: tuple[str, ...], empty: Tensor) -> Tensor:
            return torch.stack([values[name] for name in names], 1) if names else empty

        fields = stack(keys(self.pde.variables), torch.empty(0))
        static = stack(keys(self.pde.static_variables), fields[:, :0])
        scalars = stack(self.pde.scalars, torch.empty(2, 0))
        duration = self.duration * time
        end = self.pde.propagate(fields, static, scalars, duration, duration / 16)
        return dict(zip(keys(self.pde.variables), end.unbind(1), strict=True))

    def difference(self, changed: Mapping[str, Tensor], expected: Mapping[str, Tensor], time: float) -> float:
        """Between the changed state advanced and the advanced state changed, relative to what happens."""
        found = self.advance(changed, time)
        error = sum(float((found[key] - expected[key]).square().sum()) for key in found)
        change = sum(float((found[key] - changed[key]).square().sum()) for key in found)
        return float((error / change) ** 0.5)


def mirrored(values: Mapping[str, Tensor], axis: AxisName) -> dict[str, Tensor]:
    def flip(name: str, value: Tensor) -> Tensor:
        if value.ndim == 1:
            return value
        # Around a grid point of nodes: point 0 stays where it is.
        turned = value.flip(AXES[axis]).roll(1, AXES[axis])
        return -turned if name.endswith(f"_{axis}") else turned

    return {name: flip(name, value) for name, value in values.items()}


def transposed(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    other = {"_x": "_y", "_y": "_x"}
    return {
        name[:-2] + other[name[-2:]] if name[-2:] in other else name: value
        if value.ndim == 1
        else value.transpose(-2, -1)
        for name, value in values.items()
    }


@pytest.mark.parametrize("kind", CASES)
def test_reflections_and_transposition(kind: str) -> None:
    case = Case.of(kind)
    end = case.advance(case.values)
    for axis in case.pde.symmetries.reflections:
        assert case.difference(mirrored(case.values, axis), mirrored(end, axis), 1.0) < 1e-11
    if case.pde.symmetries.transposition:
        assert case.difference(transposed(case.values), transposed(end), 1.0) < 1e-11


@pytest.mark.parametrize("kind", CASES)
def test_negations_offsets_and_scalings(kind: str) -> None:
    case = Case.of(kind)
    end = case.advance(case.values)
    for group in case.pde.symmetries.negations:
        signs = dict.fromkeys(group, -1.0)
        assert case.difference(scaled(case.values, signs), scaled(end, signs), 1.0) < 1e-10
    for name in case.pde.symmetries.offsets:
        moved, expected = ({**v, name: v[name] + 0.7} for v in (case.values, end))
        assert case.difference(moved, expected, 1.0) < 1e-10
    for scaling in case.pde.symmetries.scalings:
        factors = {name: 1.3**power for name, power in scaling.powers.items()}
        found = case.difference(scaled(case.values, factors), scaled(end, factors), 1.3**scaling.time)
        assert found < 1e-9  # the limiter of Euler's scheme has a small number with units


def scaled(values: Mapping[str, Tensor], factors: Mapping[str, float]) -> dict[str, Tensor]:
    return {name: value * factors.get(name, 1.0) for name, value in values.items()}


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("axis", AXES)
def test_moving_frames(kind: str, axis: AxisName) -> None:
    case = Case.of(kind)
    if axis not in case.pde.symmetries.galilean:
        return
    name, points = case.pde.symmetries.galilean[axis], 2
    speed = points * case.pde.length / 24 / case.duration
    # The fields move by whole grid points between the frames.
    end = {key: field.roll(points, AXES[axis]) for key, field in case.advance(case.values).items()}
    moving, expected = ({**v, name: v[name] + speed} for v in (case.values, end))
    assert case.difference(moving, expected, 1.0) < GALILEAN_ERROR.get(kind, 1e-4)


def test_what_marks_a_frame_of_rest_or_a_sign_is_not_declared() -> None:
    declared = {kind: Case.of(kind).pde.symmetries for kind in CASES}
    assert not declared["kolmogorov"].galilean
    assert declared["navier_stokes"].galilean == {"y": "velocity_y", "x": "velocity_x"}
    assert not declared["gray_scott"].negations
