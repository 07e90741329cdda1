"""A call's defaults are filled in from the signature, and contradictions are errors that name both sides."""

import pytest
import torch
from torch.testing import assert_close

from pelagos.models.call_selection import select_variables
from pelagos.models.context import Context, Signature

SIGNATURE = Signature(
    ("density", "velocity", "mask"), ("velocity", "density", "vorticity"), ("viscosity", "forcing")
)


def test_an_empty_context_takes_all_variables_in_order_and_no_scalars() -> None:
    call = select_variables(SIGNATURE, torch.zeros(2, 3, 4, 4), torch.zeros(2), Context())
    assert call.inputs == call.outputs == (0, 1, 2)
    assert call.residual == (1, 0, -1)
    assert_close(call.scalars, torch.full((2, 2), torch.nan), equal_nan=True)


def test_residuals_are_found_by_name_among_the_inputs_of_the_call() -> None:
    context = Context(inputs=(1, 0), outputs=(2, 0, 1))
    call = select_variables(SIGNATURE, torch.zeros(1, 2, 4, 4), torch.zeros(1), context)
    assert call.residual == (-1, 0, 1)


def test_what_a_context_says_is_taken() -> None:
    scalars_BS = torch.tensor([[1.0, 2.0]])
    context = Context(inputs=(0,), outputs=(1,), residual=(-1,), scalars=scalars_BS)
    call = select_variables(SIGNATURE, torch.zeros(1, 1, 4, 4), torch.zeros(1), context)
    assert (call.inputs, call.outputs, call.residual) == ((0,), (1,), (-1,))
    assert call.scalars is scalars_BS


@pytest.mark.parametrize(
    ("channels", "times", "context", "message"),
    [
        (2, 2, Context(), r"2 channels.*3 variables: \('density', 'velocity', 'mask'\)"),
        (3, 2, Context(inputs=(2,)), r"3 channels.*1 variables: \('mask',\)"),
        (3, 1, Context(), r"lead times of shape \(1,\) for 2 samples, \(2,\) is right"),
        (3, 2, Context(residual=(0,)), "1 entries of `residual` for 3 output channels"),
        (
            3,
            2,
            Context(scalars=torch.zeros(2, 1)),
            r"scalars of shape \(2, 1\), \(2, 2\) is right: \('viscosity', 'forcing'\)",
        ),
        (3, 2, Context(scalars=torch.zeros(1, 2)), r"scalars of shape \(1, 2\), \(2, 2\) is right"),
    ],
)
def test_contradictions_are_errors(channels: int, times: int, context: Context, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        select_variables(SIGNATURE, torch.zeros(2, channels, 4, 4), torch.zeros(times), context)
