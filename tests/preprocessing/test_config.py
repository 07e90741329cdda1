import pytest
from pydantic import ValidationError

from pelagos.preprocessing.config import Config


class Example(Config):
    size: int = 3
    scale: float = 1.0


def test_values_cannot_change_and_defaults_are_part_of_the_record() -> None:
    example = Example(size=4)
    assert example.model_dump() == {"size": 4, "scale": 1.0}
    with pytest.raises(ValidationError, match="frozen"):
        example.size = 5  # type: ignore[misc]


def test_unknown_keys_and_numbers_that_json_lacks_are_refused() -> None:
    with pytest.raises(ValidationError, match="sise"):
        Example.model_validate({"sise": 3})
    with pytest.raises(ValidationError, match="finite number"):
        Example(scale=float("nan"))
