from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from pelagos.preprocessing.physics.equation import Equation

ADAPTER: TypeAdapter[Any] = TypeAdapter(Equation)
KINDS = (
    "navier_stokes",
    "kolmogorov",
    "burgers",
    "korteweg_de_vries",
    "kuramoto_sivashinsky",
    "gray_scott",
    "allen_cahn",
    "wave",
    "euler",
    "shallow_water",
)


def test_an_unknown_equation_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValidationError, match="'navier_stokes', 'kolmogorov', 'burgers'"):
        ADAPTER.validate_python({"kind": "burger"})


def test_a_misspelt_parameter_is_refused() -> None:
    with pytest.raises(ValidationError, match="viscosty"):
        ADAPTER.validate_python({"kind": "navier_stokes", "viscosty": 1e-3})


@pytest.mark.parametrize("kind", KINDS)
def test_configurations_survive_json(kind: str) -> None:
    config = ADAPTER.validate_python({"kind": kind})
    assert ADAPTER.validate_json(config.model_dump_json()) == config
