import numpy as np

from pelagos.evaluation.frame_sums.spectral_sums import resolved_spectra, spectral_sums

TRUTH = np.array([[9.0, 8.0, 4.0, 2.0, 1.0, 1.0, 0.5]])


def test_the_top_octave_lies_above_half_of_what_is_resolved() -> None:
    found = spectral_sums(2 * TRUTH, TRUTH, TRUTH, resolved=5)
    assert found["top_octave_truth"][0] == 2 + 1 + 1
    assert found["top_octave_forecast"][0] == 8


def test_a_forecast_of_e_times_the_energy_is_off_by_one() -> None:
    found = spectral_sums(np.e * TRUTH, TRUTH, TRUTH, resolved=5)
    np.testing.assert_allclose(found["log_spectrum_error"], 1, rtol=1e-12)


def test_bands_share_out_all_energy_and_those_beyond_the_grid_are_empty() -> None:
    found = spectral_sums(TRUTH, TRUTH, 3 * TRUTH, resolved=5, edges=(4, 12))
    np.testing.assert_array_equal(found["band_error"], [[69, 7.5, 0]])
    np.testing.assert_array_equal(found["band_truth"], [[23, 2.5, 0]])


def test_frames_without_a_spectrum_count_nothing_and_failures_infinitely() -> None:
    truth = np.concatenate([TRUTH, np.full_like(TRUTH, np.nan)])
    found = spectral_sums(np.full_like(truth, np.nan), truth, np.full_like(truth, np.nan), resolved=5)
    np.testing.assert_array_equal(found["spectrum_weight"], [1, 0])
    np.testing.assert_array_equal(found["log_spectrum_error"], [np.inf, 0])
    np.testing.assert_array_equal(found["band_error"][:, 0], [np.inf, 0])


def test_resolved_spectra_are_cut_filled_up_and_infinite_where_a_forecast_failed() -> None:
    truth = np.concatenate([TRUTH, TRUTH, np.full_like(TRUTH, np.nan)])
    forecast = np.concatenate([2 * TRUTH, np.full_like(TRUTH, np.nan), TRUTH])
    found = resolved_spectra(forecast, truth, 3)
    np.testing.assert_array_equal(found["spectrum_forecast"], [[18, 16, 8], [np.inf] * 3, [0] * 3])
    np.testing.assert_array_equal(found["spectrum_truth"], [[9, 8, 4], [0] * 3, [0] * 3])
    assert resolved_spectra(forecast, truth, 9)["spectrum_truth"][0].tolist() == [*TRUTH[0], 0, 0]
