import pytest
from pydantic import ValidationError

from pelagos.preprocessing.transform import Log1p
from pelagos.preprocessing.variables import KNOWN, Variable, keys, known_variable, with_role


def test_levels_are_part_of_a_key_and_written_shortly() -> None:
    found = [Variable(name="u", level=level) for level in (None, 500, 500.0, 0.1, 1e5)]
    assert keys(found) == ("u", "u@500", "u@500", "u@0.1", "u@100000")


def test_components_of_a_vector_are_scored_together_and_others_alone() -> None:
    velocity = [known_variable(name) for name in ("velocity_x", "velocity_y")]
    assert {variable.score_group for variable in velocity} == {"velocity"}
    assert Variable(name="u", level=850).score_group == "u@850"


def test_known_names_have_one_meaning_and_others_are_plain() -> None:
    assert all(name == variable.name for name, variable in KNOWN.items())
    assert known_variable("precipitation_flux").units == "kg m-2 s-1"
    assert known_variable("salinity") == Variable(name="salinity", units="1")


def test_stored_values_mean_the_same_where_units_and_transform_agree() -> None:
    plain = Variable(name="rain", units="m")
    transformed = plain.model_copy(update={"transform": Log1p(scale=1e-3)})
    assert plain.same_values(Variable(name="snow", units="m", level=3))
    assert not plain.same_values(Variable(name="rain", units="mm"))
    assert not plain.same_values(transformed)
    assert plain.describe_values() == "m"
    assert transformed.describe_values() == "ln(1 + rain / 0.001 m)"


def test_variables_of_roles_keep_their_order() -> None:
    found = [
        Variable(name=name, role=role)
        for name, role in (("a", "static"), ("b", "prognostic"), ("c", "static"))
    ]
    assert keys(with_role(found, "static")) == ("a", "c")
    assert keys(with_role(found, "prognostic", "static")) == ("a", "b", "c")


def test_a_variable_has_a_name_and_a_known_role() -> None:
    with pytest.raises(ValidationError, match="at least 1 character"):
        Variable(name="")
    with pytest.raises(ValidationError, match="'prognostic', 'static', 'forcing' or 'diagnostic'"):
        Variable.model_validate({"name": "a", "role": "input"})
