from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from pelagos.evaluation.inference.resampling import Blocks, draw_counts
from pelagos.evaluation.report.curves import (
    choose,
    lead_time_panels,
    loss_panel,
    readable_times,
    spectrum_panels,
)

Make = Callable[..., xr.Dataset]


def errors(values: object, unit: str = "s") -> xr.DataArray:
    array = np.asarray(values, dtype=np.float64)
    lead_time = ("lead_time", np.arange(1.0, array.shape[1] + 1), {"units": unit})
    return xr.DataArray(array, {"lead_time": lead_time}, ("trajectory", "lead_time"))


def test_a_curve_is_the_median_with_the_middle_half() -> None:
    [panel] = lead_time_panels(
        {"net": errors([[1, 10], [2, 20], [3, 30], [4, 40], [5, 50]])}, "RMSE", log=False
    )
    [curve] = panel.curves
    assert curve.low is not None
    assert curve.high is not None
    np.testing.assert_array_equal(curve.y, [3, 30])
    np.testing.assert_array_equal([curve.low, curve.high], [[2, 20], [4, 40]])
    assert panel.x_label == "lead time [s]"


def test_with_drawings_a_curve_has_the_interval_of_its_median() -> None:
    values = np.arange(20.0)[:, None] * [1.0, 10.0]
    counts = draw_counts(Blocks(np.arange(20), "trajectory"))
    [panel] = lead_time_panels({"net": errors(values.tolist())}, "RMSE", log=False, counts_BS=counts)
    [curve] = panel.curves
    assert curve.low is not None
    assert curve.high is not None
    np.testing.assert_array_equal(curve.y, [9.5, 95])
    # By the order statistics that hold the median of 20 with 95 %: the sixth and the fifteenth.
    assert abs(curve.low[0] - 5) <= 1
    assert abs(curve.high[0] - 14) <= 1
    np.testing.assert_array_equal(curve.low[1], 10 * curve.low[0])
    alone = lead_time_panels({"net": errors([[1.0, 2.0]])}, "e", log=False, counts_BS=np.ones((1, 1)))[0]
    assert alone.curves[0].low is None


def test_few_samples_have_no_band_and_infinite_ones_no_undefined_median() -> None:
    [panel] = lead_time_panels({"net": errors([[1.0, np.inf], [3.0, np.inf]])}, "RMSE", log=True)
    assert panel.curves[0].low is None
    assert np.isinf(panel.curves[0].y[1])


def test_axes_are_logarithmic_only_where_values_span_a_wide_range() -> None:
    narrow, wide = (lead_time_panels({"net": errors([[1.0, top]])}, "e", log=True)[0] for top in (19.0, 21.0))
    assert not narrow.log_y
    assert wide.log_y


@pytest.mark.parametrize(
    ("last", "expected"), [(3.0 * 3600, "s"), (4.0 * 3600, "h"), (3.9 * 86400, "h"), (4.0 * 86400, "d")]
)
def test_long_lead_times_get_a_longer_unit(last: float, expected: str) -> None:
    array = xr.DataArray([0.0], {"lead_time": ("lead_time", [last], {"units": "s"})}, ("lead_time",))
    times, unit = readable_times(array)
    assert unit == expected
    assert times[-1] * {"s": 1, "h": 3600, "d": 86400}[unit] == pytest.approx(last)


def test_spectra_leave_out_the_mean_and_what_is_rounding() -> None:
    energy = np.array([9.0, 1.0, 1e-3, 1e-15])[None, None]
    coords = {"lead_time": [1.0], "wavenumber": np.arange(4.0)}
    spectrum = xr.DataArray(energy, coords, ("trajectory", "lead_time", "wavenumber"))
    [panel] = spectrum_panels({"net": spectrum}, None, "k")
    np.testing.assert_array_equal(panel.curves[0].x, [1, 2, 3])
    assert 1e-15 < panel.y_floor < 1e-3


def test_chosen_lead_times_are_the_nearest_or_evenly_spread() -> None:
    times = np.arange(1.0, 11.0)
    assert choose(times, None, 3) == [0, 4, 9]
    assert choose(times, [2.2, 9.0], 3) == [1, 8]
    assert choose(times[:2], None, 5) == [0, 1]


def test_losses_are_averaged_over_bins() -> None:
    steps = np.arange(1000)
    panel = loss_panel({"run": (steps, np.where(steps % 2, 1.0, 3.0))}, "step", "loss")
    assert len(panel.curves[0].x) == 100
    np.testing.assert_allclose(panel.curves[0].y, 2.0)
