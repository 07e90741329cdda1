"""Config: the frozen, strict base of every configuration class."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """An immutable set of checked values: unknown keys are errors, defaults are part of the record."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
