"""What a network is told about a batch: its variables by name, and scalars of which none is invented."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from pelagos.models.context import Signature
from pelagos.pipeline.runs.model_folder import DerivedScalar, context_of, signature_of
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.layout import Layout
from pelagos.preprocessing.variables import known_variable

U, V, MASK = known_variable("velocity_x"), known_variable("velocity_y"), known_variable("mask")


def layout(**changes: object) -> Layout:
    grid = Grid("cartesian", np.arange(8) / 4, np.arange(16) / 16, ("wall", "wall"), ("periodic", "periodic"))
    values: dict[str, object] = {"scalars": ("viscosity",), "time_scale": 0.5}
    return Layout("flow", (U, V, MASK), (U, V), grid, **(values | changes))  # type: ignore[arg-type]


LEADS = torch.tensor([1.0, 3.0])


def test_channels_are_found_by_name_whatever_their_order() -> None:
    signature = Signature(("mask", "velocity_y", "density", "velocity_x"), ("velocity_y", "velocity_x"))
    context = context_of(signature, layout(), None, LEADS)
    assert context.inputs == (3, 1, 0)
    assert context.outputs == (1, 0)
    assert context.residual == (0, 1)
    assert context.periodic == (False, True)
    assert context.scalars is None


def test_scalars_come_from_the_batch_from_its_grid_or_not_at_all() -> None:
    conditions: tuple[DerivedScalar, ...] = ("duration", "spacing_x", "spacing_y")
    signature = signature_of([layout(), layout(scalars=("forcing",))], conditions)
    assert signature.scalars == ("viscosity", "forcing", *conditions)
    context = context_of(signature, layout(), torch.tensor([[1e-3], [np.nan]], dtype=torch.float64), LEADS)
    expected = torch.tensor(
        [[1e-3, np.nan, 0.5, 1 / 16, 0.25], [np.nan, np.nan, 1.5, 1 / 16, 0.25]], dtype=torch.float32
    )
    assert context.scalars is not None
    assert_close(context.scalars, expected, rtol=1e-6, atol=0, equal_nan=True)


def test_a_stores_own_scalar_goes_before_one_that_follows_from_its_grid() -> None:
    own = layout(scalars=("spacing_x",))
    context = context_of(signature_of([own], ("spacing_x",)), own, torch.tensor([[7.0], [8.0]]), LEADS)
    assert context.scalars is not None
    assert context.scalars.tolist() == [[7.0], [8.0]]


def test_variables_that_the_network_has_no_weights_for_are_an_error() -> None:
    with pytest.raises(ValueError, match="no input weights for mask; it knows velocity_x, velocity_y"):
        context_of(Signature(("velocity_x", "velocity_y"), ("velocity_x",)), layout(), None, LEADS)
