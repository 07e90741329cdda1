from collections.abc import Callable, Sequence

import numpy as np
import pytest
import xarray as xr

from pelagos.evaluation import conservation

Make = Callable[..., xr.Dataset]


FRAME = ("trajectory", "y", "x")


def taylor_green(
    make: Make,
    size: int = 32,
    lengths: Sequence[float] = (1.0, 0.5),
    boundary: str = "periodic,periodic",
    offset: float = 0.0,
) -> xr.Dataset:
    """Velocity of a Taylor-Green vortex on [0, 2π)² with amplitudes `lengths` over lead time."""
    x = 2 * np.pi * (np.arange(size) + offset) / size
    u = np.cos(x)[None, :] * np.sin(x)[:, None]
    v = -np.sin(x)[None, :] * np.cos(x)[:, None]
    amplitude = np.array(lengths)[:, None, None]
    fields = {"velocity_x": (amplitude * u)[None], "velocity_y": (amplitude * v)[None]}
    return make(fields, y=x, x=x, boundary=boundary)


def test_taylor_green_has_its_energy_and_enstrophy(make: Make) -> None:
    found = conservation.quantities(taylor_green(make)).isel(trajectory=0)
    np.testing.assert_allclose(found["kinetic energy"], [0.25, 0.0625])
    np.testing.assert_allclose(found["enstrophy"], [0.5, 0.125])  # ω = −2 cos x cos y
    np.testing.assert_allclose(found["momentum x"], 0, atol=1e-15)


def test_the_vorticity_is_right_between_walls_to_second_order(make: Make) -> None:
    errors = []
    for size in (32, 64):
        data = taylor_green(make, size, boundary="wall,wall", offset=0.5)
        x = data["x"].values
        exact = -2 * np.cos(x)[None, :] * np.cos(x)[:, None]
        errors.append(np.abs(conservation.vorticity(data).values[0, 0] - exact).max())
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)


def test_the_spectral_vorticity_is_exact_also_on_a_falling_axis(make: Make) -> None:
    data = taylor_green(make).isel(y=slice(None, None, -1))
    exact = -2 * np.cos(data["x"].values)[None, :] * np.cos(data["y"].values)[:, None]
    np.testing.assert_allclose(conservation.vorticity(data).values[0, 0], exact, atol=1e-13)


def test_an_incompressible_flow_has_no_divergence_and_a_potential_flow_has_all(make: Make) -> None:
    data = taylor_green(make)
    np.testing.assert_allclose(conservation.divergence(data), 0, atol=1e-14)
    x = data["x"].values
    source = make(
        {
            "velocity_x": np.broadcast_to(np.cos(x)[None, :], (1, 1, 32, 32)),
            "velocity_y": np.broadcast_to(np.cos(x)[:, None], (1, 1, 32, 32)),
        },
        y=x,
        x=x,
    )
    np.testing.assert_allclose(conservation.divergence(source), 1)


def test_drift_is_relative_to_the_initial_frame(make: Make) -> None:
    initial = taylor_green(make, lengths=(1.0,)).isel(lead_time=0, drop=True)
    found = conservation.drift(taylor_green(make, lengths=(1.0, 0.5)), initial).isel(trajectory=0)
    np.testing.assert_allclose(found["kinetic energy"], [0, -0.75], atol=1e-14)
    np.testing.assert_allclose(found["momentum x"], 0, atol=1e-14)  # relative to ⟨|u|⟩, not to 0


def test_mass_that_only_moves_does_not_drift_and_lost_mass_does(make: Make, rng: np.random.Generator) -> None:
    density = rng.uniform(1, 2, (2, 1, 8, 8))
    initial = make({"density": density}).isel(lead_time=0, drop=True)
    moved = make({"density": np.concatenate([np.roll(density, 3, axis=-1), 0.9 * density], axis=1)})
    found = conservation.drift(moved, initial)
    assert list(found.data_vars) == ["mass"]
    np.testing.assert_allclose(found["mass"], [[0, -0.1], [0, -0.1]], atol=1e-14)


def test_momentum_and_energy_carry_the_mass(make: Make) -> None:
    ones = np.ones((1, 1, 4, 4))
    data = make({"density": 3 * ones, "velocity_x": 2 * ones, "velocity_y": 0 * ones})
    found = conservation.quantities(data)
    assert found["momentum x"].item() == 6
    assert found["kinetic energy"].item() == 6


def test_vorticity_alone_gives_enstrophy(make: Make) -> None:
    found = conservation.quantities(make({"vorticity": np.full((1, 1, 4, 4), 2.0)}))
    assert found["enstrophy"].item() == 2
    assert found["circulation"].item() == 2


def test_means_on_the_sphere_are_by_area(make: Make) -> None:
    latitude = np.linspace(-89, 89, 90)
    field = np.broadcast_to((np.sin(np.deg2rad(latitude)) ** 2)[:, None], (1, 1, 90, 4))
    data = make({"tracer": field}, grid="latlon", y=latitude, x=np.arange(4) * 90.0)
    assert conservation.quantities(data)["tracer mass"].item() == pytest.approx(1 / 3, rel=1e-3)


def test_fields_without_a_conserved_meaning_give_nothing(make: Make) -> None:
    assert not conservation.quantities(make({"phase": np.ones((1, 1, 4, 4))})).data_vars


def test_an_initial_zero_has_no_relative_drift(make: Make) -> None:
    data = make({"density": np.ones((1, 1, 4, 4))})
    initial = xr.zeros_like(data.isel(lead_time=0, drop=True))
    assert conservation.drift(data, initial)["mass"].isnull().all()


@pytest.mark.parametrize("boundary", ["periodic,periodic", "wall,wall"])
@pytest.mark.parametrize("rows", [1, 2])
def test_grids_of_one_or_two_rows_have_a_drift(make: Make, rows: int, boundary: str) -> None:
    shear = np.broadcast_to(np.arange(rows, dtype=np.float64)[:, None], (1, 1, rows, 8))
    fields = {"velocity_x": 0 * shear + 3.0, "velocity_y": shear}
    data = make(fields, y=np.arange(rows) * 0.5, x=np.arange(8) * 0.25, boundary=boundary)
    found = conservation.drift(data, data.isel(lead_time=0, drop=True))
    assert found["kinetic energy"].item() == 0
    assert np.isfinite(conservation.quantities(data)["enstrophy"].item())
    if boundary == "wall,wall" and rows == 2:
        sheared = data.assign(velocity_x=data["velocity_y"], velocity_y=data["velocity_y"] * 0)
        np.testing.assert_allclose(conservation.vorticity(sheared), -2)


def test_mass_that_only_moves_between_walls_does_not_drift_on_uneven_rows(make: Make) -> None:
    y = 0.5 - 0.5 * np.cos(np.pi * (np.arange(64) + 0.5) / 64)
    # Both profiles have the mean 1 over [0, 1]; a plain mean over rows differs by 0.25.
    profiles = np.stack([2 * y, 1 + np.sin(2 * np.pi * y), 3 * y**2])
    data = make({"density": np.repeat(profiles[None, :, :, None], 4, axis=3)}, y=y, boundary="wall,wall")
    np.testing.assert_allclose(conservation.quantities(data)["mass"], 1, atol=2e-3)
