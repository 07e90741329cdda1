"""What a call without a context stands for."""

import dataclasses

import pytest

from pelagos.models.context import ALL_VARIABLES, Context, Signature


def test_a_context_leaves_everything_open_by_default() -> None:
    assert (ALL_VARIABLES.inputs, ALL_VARIABLES.outputs, ALL_VARIABLES.residual) == (None, None, None)
    assert ALL_VARIABLES.scalars is None
    assert ALL_VARIABLES.periodic == (False, False)


def test_contexts_and_signatures_cannot_change_under_a_network() -> None:
    for value, field in ((Context(), "periodic"), (Signature((), ()), "inputs")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field, ())


def test_signatures_are_equal_by_what_they_hold() -> None:
    assert Signature(("a",), ("b",), shape=(4, 8)) == Signature(("a",), ("b",), shape=(4, 8))
    assert Signature(("a", "b"), ("b",)) != Signature(("b", "a"), ("b",))
