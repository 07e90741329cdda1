"""Constraints together: their order, and where they have nothing to do."""

from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from pelagos.models.constraints.constrained_step import (
    ConstrainedStep,
    Constraint,
    check_order,
    check_use,
    unknown_names,
)
from pelagos.preprocessing.errors import ConfigError
from tests.models.constraints.atmospheres import atmosphere, fields

READ: TypeAdapter[tuple[Constraint, ...]] = TypeAdapter(tuple[Constraint, ...])


def read(*values: dict[str, Any]) -> tuple[Constraint, ...]:
    return READ.validate_python(values)


def test_an_order_in_which_one_undoes_another_is_refused() -> None:
    with pytest.raises(ValueError, match="dry_mass, water, energy is the order that does not"):
        check_order(read({"kind": "energy"}, {"kind": "dry_mass"}, {"kind": "water"}))
    positive = {"kind": "non_negative", "variables": ["density"]}
    with pytest.raises(ValueError, match="a shift may take density below zero again"):
        check_order(read(positive, {"kind": "conserved_mean", "variables": ["density"]}))
    check_order(read(positive, {"kind": "conserved_mean", "variables": ["density"], "correction": "scale"}))


def test_a_dataset_without_the_fields_is_left_alone_and_a_run_without_them_refused() -> None:
    dataset = atmosphere("pressure")
    constraints = read({"kind": "conserved_mean", "variables": ["density"]})
    before, after = fields(dataset, torch.float32)
    step = ConstrainedStep(constraints, dataset)
    assert step.is_empty
    assert step(before, after, torch.ones(2)) is after
    with pytest.raises(ConfigError, match="no dataset forecasts density; there are evaporation"):
        check_use(constraints, [dataset])


def test_a_shift_of_radiation_that_ends_with_the_sun_is_refused() -> None:
    clear = {"kind": "clearness", "variables": ["radiation"]}
    with pytest.raises(ValueError, match="a shift would leave radiation some radiation by night"):
        check_order(read(clear, {"kind": "conserved_mean", "variables": ["radiation"]}))


def test_names_beside_others_that_no_dataset_has_are_found() -> None:
    dataset = atmosphere("pressure")
    known = next(iter(dataset.outputs))
    constraints = read({"kind": "non_negative", "variables": [known, "densty"]})
    check_use(constraints, [dataset])
    assert unknown_names(constraints, [dataset]) == ["non_negative: densty"]


def test_half_precision_is_corrected_in_single() -> None:
    dataset = atmosphere("pressure")
    before, after = fields(dataset, torch.float32)
    made = ConstrainedStep(read({"kind": "dry_mass"}), dataset)(before, after.bfloat16(), torch.ones(2))
    assert made.dtype == torch.float32
