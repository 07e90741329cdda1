import base64
import io
import re

import numpy as np
from matplotlib.image import imread

from pelagos.evaluation.report.figures import ColourScale
from pelagos.evaluation.report.film import MOST, chosen_frames, film
from pelagos.evaluation.report.graticule import Canvas


def test_a_film_is_one_strip_for_each_field_and_needs_no_script() -> None:
    frames = np.arange(6.0).reshape(6, 1, 1) * np.ones((6, 4, 8))
    page = film([("a < b", frames, ColourScale(0, 5, "gray"))], [f"{i} h" for i in range(6)], Canvas(), "f1")
    [uri] = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    strip = imread(io.BytesIO(base64.b64decode(uri)), format="png")[..., 0]
    assert strip.shape == (4, 48)
    np.testing.assert_allclose(strip[0, ::8], np.arange(6) / 5, atol=0.01)
    assert "--frames:6" in page
    assert "<script" not in page
    assert "a &lt; b" in page


def test_long_forecasts_are_thinned_from_the_first_frame_to_the_last() -> None:
    places = chosen_frames(500)
    assert (places[0], places[-1], len(places)) == (0, 499, MOST)
