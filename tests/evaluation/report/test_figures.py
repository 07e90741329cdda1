import base64
import io

import numpy as np
import pytest
from matplotlib.image import imread
from numpy.typing import NDArray

from pelagos.evaluation.report.figures import ColourScale, thumbnail


def pixels(uri: str) -> NDArray[np.float64]:
    kind, data = uri.split(",")
    assert kind == "data:image/png;base64"
    return np.asarray(imread(io.BytesIO(base64.b64decode(data)), format="png"), dtype=np.float64)


def test_a_scale_diverges_about_zero_for_signed_fields_only(rng: np.random.Generator) -> None:
    signed, positive = rng.normal(size=(50, 50)), rng.uniform(270, 300, (50, 50))
    assert ColourScale.of(signed).low == -ColourScale.of(signed).high
    assert ColourScale.of(positive).low > 270
    assert ColourScale.of(positive).colormap != ColourScale.of(signed).colormap
    assert ColourScale.of(positive, error=True).low < 0


@pytest.mark.parametrize("values", [np.zeros((2, 2)), np.full((2, 2), 5.0), np.full((2, 2), np.nan)])
def test_a_scale_of_constants_has_extent(values: NDArray[np.float64]) -> None:
    for error in (False, True):
        scale = ColourScale.of(values, error=error)
        assert scale.high > scale.low


def test_an_image_shows_every_value_in_its_colour_and_missing_in_grey() -> None:
    scale = ColourScale(0, 1, "gray")
    found = pixels(scale.image(np.array([[0.0, 0.5, 1.0], [np.nan, -9.0, np.inf]])))[..., :3]
    assert found.shape == (2, 3, 3)
    np.testing.assert_allclose(found[0], np.array([[0, 0, 0], [0.5, 0.5, 0.5], [1, 1, 1]]), atol=0.01)
    np.testing.assert_allclose(
        found[1], np.array([[168 / 255, 172 / 255, 176 / 255], [0, 0, 0], [1, 1, 1]]), atol=0.01
    )


def test_a_picture_of_a_128_by_128_field_is_small() -> None:
    x = np.linspace(0, 6, 128)
    field = np.sin(x)[:, None] * np.cos(2 * x + x[:, None])
    assert len(ColourScale.of(field).image(field)) < 20_000


def test_thumbnails_average_blocks_and_skip_what_is_missing() -> None:
    field = np.array([[1.0, 3.0, np.nan, 2.0], [1.0, 3.0, np.nan, np.nan]])
    np.testing.assert_array_equal(thumbnail(field, limit=2), [[2.0, 2.0]])
    np.testing.assert_array_equal(thumbnail(np.full((3, 4), np.nan), limit=4), np.full((3, 4), np.nan))
    assert thumbnail(np.zeros((360, 720)), limit=192).shape == (90, 180)


def test_values_beyond_a_scale_are_known() -> None:
    values = np.concatenate([np.linspace(1, 2, 2000), [9.0]])
    scale = ColourScale.of(values)
    assert (scale.below, scale.above, scale.most) == (
        True,
        True,
        9.0,
    )  # the rarest values are clipped at both ends
    plain = ColourScale.of(np.array([[1.0, 2.0]]))
    assert not ColourScale(0, 3, "viridis", plain.least, plain.most).above
    assert plain.reaching(np.array([0.0, np.inf])).least == 0.0
