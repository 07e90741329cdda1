"""Config: the frozen, strict base of every configuration class."""

from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """An immutable set of checked values: unknown keys are errors, and defaults are part of the record."""

    # JSON has no NaN or infinity, and every configuration is recorded as JSON. What is in error may be a URL with a
    # password; commands say what was found without it.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


class ChangeableMark:
    """The metadata of a field that is `Changeable`."""


T = TypeVar("T")
Changeable = Annotated[T, ChangeableMark()]
"""A field that may change when a run is continued, because it has no effect on what is learnt."""
