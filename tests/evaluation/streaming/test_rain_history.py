import numpy as np
import pytest

from pelagos.evaluation.forecast_plan import frames_in_split
from pelagos.evaluation.frame_sums.rain_sums import RainClimate
from pelagos.evaluation.streaming import rain_history
from pelagos.evaluation.streaming.rain_history import RainConfig, RainHistory
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.store.store import Store


@pytest.fixture(autouse=True)
def _without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here computes a score."""
    monkeypatch.setattr(rain_history, "require_scores", lambda: None)


def test_the_climate_is_that_of_all_training_frames_however_many_rows_are_read_at_a_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = frames_in_split(store, "train")
    frames = [store.take(int(n), [int(t)])[0, 0] for n, t in zip(*np.nonzero(inside), strict=True)]
    dry = float(np.median(frames))
    expected = RainClimate.fit(np.stack(frames).astype(np.float64), dry)
    for size in (1, 2**28):
        monkeypatch.setattr(rain_history, "_BAND_BYTES", size)
        found = RainHistory(store, store.variables[0], "train", dry).climate
        np.testing.assert_array_equal(found.dry, expected.dry)
        np.testing.assert_array_equal(found.heavy, expected.heavy)


@pytest.mark.parametrize(("units", "dry"), [("mm", 0.25), ("kg m-2", 0.25), ("m", 0.25e-3)])
def test_a_quarter_of_a_millimetre_is_dry_whatever_the_units(store: Store, units: str, dry: float) -> None:
    rain = store.variables[0].model_copy(update={"units": units})
    found = RainConfig(variable=rain.key).sums(store, [rain], "train", seeps=True)
    assert found.dry == pytest.approx(dry, rel=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variable": "snow"}, "'snow' is none of the forecast variables"),
        ({"window": 10**6}, "1000000 points do not fit into a grid"),
        ({}, "which are no amount of rain"),
    ],
)
def test_what_is_no_rain_is_refused(store: Store, changes: dict[str, object], message: str) -> None:
    rate = store.variables[0].model_copy(update={"units": "kg m-2 s-1"})
    config = RainConfig.model_validate({"variable": rate.key, **changes})
    with pytest.raises(ConfigError, match=message):
        config.sums(store, [rate], "train", seeps=True)
