from typing import Any

import pytest
from pydantic import ValidationError

from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.fields.field_options import Conversion, FieldOptions, Subset
from pelagos.preprocessing.fields.store_channel import LinearConversion


def test_units_alone_say_how_to_convert() -> None:
    conversion = Conversion.model_validate("degC").build("air_temperature", "K")
    assert conversion == LinearConversion(1, -273.15)
    options = FieldOptions.model_validate({"convert": {"t": "degC"}})
    assert FieldOptions.model_validate_json(options.model_dump_json()) == options


@pytest.mark.parametrize(
    ("given", "linear"),
    [({"scale": 10}, (10, 0)), ({"offset": -5}, (1, -5)), ({"scale": 2, "offset": 1}, (2, 1))],
)
def test_numbers_that_are_given_need_no_known_units(
    given: dict[str, float], linear: tuple[float, float]
) -> None:
    found = Conversion.model_validate({"units": "parsec", **given}).build("distance", "furlong")
    assert (found.scale, found.offset) == linear


def test_units_that_do_not_fit_ask_for_the_numbers() -> None:
    with pytest.raises(
        ConfigError, match=r"convert.t: .*measure different things; .* give \{units: m, scale: ...\}"
    ):
        Conversion(units="m").build("t", "K")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variables": []}, "variables"),
        ({"coarsen": 0}, "coarsen"),
        ({"forcings": ["moon"]}, "cos_local_time"),
        ({"roles": {"a": "input"}}, "roles.a"),
        ({"missing": "drop"}, "'error' or 'keep'"),
        ({"subset": {"every": 0}}, "subset.every"),
        ({"level": [500]}, "level"),
    ],
)
def test_impossible_options_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        FieldOptions.model_validate(options)


def test_everything_is_taken_as_it_is_by_default() -> None:
    options = FieldOptions()
    assert options.subset == Subset()
    assert options.model_dump(exclude_defaults=True) == {}
