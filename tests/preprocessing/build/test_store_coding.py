import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from analytic_source import Analytic, analytic_fields, configuration, contents
from numpy.typing import NDArray

from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.build.compare_stores import compare
from pelagos.preprocessing.build.repair import repair
from pelagos.preprocessing.build.store_coding import code_block
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.inspection.inspect_path import facts, inspect
from pelagos.preprocessing.safety.trust import trusting
from pelagos.preprocessing.store import store as store_module
from pelagos.preprocessing.store.coding import Coding
from pelagos.preprocessing.store.manifest import read_manifest, verify
from pelagos.preprocessing.store.store import open_store
from pelagos.preprocessing.store.xarray_view import xarray_view

RICH: dict[str, Any] = {
    "names": ["heating", "density", "velocity_x"],
    "static": "varying",
    "scalars": True,
    "missing": (1, 3),
}


@pytest.fixture(autouse=True)
def trust() -> Iterator[None]:
    """The stores of these tests name the class that reads their sources."""
    with trusting(["analytic_source:Analytic"]):
        yield


def half(root: Path, source: dict[str, Any] | None = None, **options: Any) -> Path:
    options = {"dtype": "float16", "missing": "keep", "shard_bytes": 1000} | options
    return build(configuration(root, RICH if source is None else source, **options))


@pytest.mark.parametrize("codec", ["none", "blosc-lz4"])
def test_values_come_back_within_the_recorded_error(tmp_path: Path, codec: str) -> None:
    path, source = half(tmp_path, codec=codec), Analytic(**RICH)
    store, coding = open_store(path), read_manifest(path).coding
    assert coding is not None
    frames = np.stack([store.read(i, 0, store.num_times) for i in range(store.num_trajectories)])
    for number, variable in enumerate(store.variables):
        errors = frames[:, :, number].astype(np.float64) - source.values(variable.name)
        assert np.isnan(errors).sum() == 1
        assert np.nanmax(np.abs(errors)) == pytest.approx(coding["state"]["largest_error"][number], rel=1e-5)
        rms = np.sqrt(np.nanmean(np.square(errors)))
        assert 0 < rms == pytest.approx(coding["state"]["rms_error"][number], rel=1e-5)
        increments = np.sqrt(np.nanmean(np.square(np.diff(errors, axis=1))))
        assert increments == pytest.approx(coding["state"]["increment_rms_error"][number], rel=1e-5)
        assert rms < 4e-4 * store.stats.std[number]
    depth = np.stack([store.static(i)[0] for i in range(store.num_trajectories)])
    errors = depth.astype(np.float64) - source.values("depth")[:, 0]
    assert np.abs(errors).max() == pytest.approx(coding["static"]["largest_error"][0], rel=1e-5)


def test_a_store_takes_half_the_bytes_and_says_what_its_statistics_are_of(tmp_path: Path) -> None:
    path = half(tmp_path)
    wide = build(configuration(tmp_path, RICH, missing="keep", version="2", shard_bytes=2000))
    sizes = [
        sum(file.stat().st_size for file in (one / "state/c").rglob("*") if file.is_file())
        for one in (path, wide)
    ]
    assert sizes[0] < 0.6 * sizes[1]
    store = open_store(path)
    train = np.stack([store.read(i, 0, 5) for i in range(4)]).astype(np.float64)
    assert np.nanmean(train, axis=(0, 1, 3, 4)) == pytest.approx(store.stats.mean, rel=1e-12, abs=1e-12)
    assert np.nanstd(train, axis=(0, 1, 3, 4)) == pytest.approx(store.stats.std)
    differences = np.diff(train, axis=1)
    assert np.nanstd(differences, axis=(0, 1, 3, 4)) == pytest.approx(store.stats.tendency_std)
    assert compare(path, wide, tolerance=2e-3).fields == []


def test_zarr_and_xarray_read_it_by_scale_and_offset(tmp_path: Path) -> None:
    path = half(tmp_path)
    store, raw = open_store(path), xr.open_zarr(path, chunks=None)
    assert raw["state"].dtype == np.float16
    decoded = raw["state"] * raw["scale"] + raw["offset"]
    assert decoded.dims == ("trajectory", "time", "channel", "y", "x")
    assert np.array_equal(decoded[2].values, store.read(2, 0, 5), equal_nan=True)
    view = xarray_view(store)
    assert view["density"].dtype == np.float32
    number = [variable.key for variable in store.variables].index("density")
    assert np.array_equal(view["density"][1, 2:4, :, ::2], store.read(1, 2, 4)[:, number, :, ::2])
    assert np.array_equal(view["depth"][3, 1], store.static(3)[0, 1])
    channel = raw["state"].attrs["channels"][number]
    assert channel["scale_factor"] == raw["scale"].values[number]
    assert channel["rms_error"] > 0


def test_levels_of_a_view_are_decoded_one_by_one(tmp_path: Path) -> None:
    source = {"names": ["velocity_x"], "levels": (850, 500), "level_units": "hPa"}
    view = xarray_view(open_store(half(tmp_path, source)))
    expected = Analytic(**source).values("velocity_x")
    assert view["velocity_x"].values == pytest.approx(expected, abs=0.02)
    assert view["velocity_x"][2, 1, 1, 3].values == pytest.approx(expected[2, 1, 1, 3], abs=0.02)


def test_the_bytes_do_not_depend_on_interruptions_and_damage_is_mended(tmp_path: Path) -> None:
    path = half(tmp_path / "whole")
    before = contents(path)
    for part in ("2/3", "1/3", "3/3"):
        parts = half(tmp_path / "parts", part=part)
    assert contents(parts) == before
    assert verify(path) == []
    damaged = sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.name == "zarr.json")
    damaged = sorted([*damaged, "scale/c/0", "state/c/2/0/0/0/0", "stats/std/c/0"])
    for name in damaged:
        (path / name).unlink()
    assert repair(path) == damaged
    assert contents(path) == before


def test_a_store_in_float32_says_nothing_of_it(tmp_path: Path) -> None:
    plain, said = (
        build(configuration(tmp_path / name, RICH, missing="keep", **options))
        for name, options in (("plain", {}), ("said", {"dtype": "float32"}))
    )
    assert contents(plain) == contents(said)
    assert b"dtype" not in (plain / "_build/manifest.json").read_bytes()
    assert not (plain / "scale").exists()


def test_a_value_out_of_reach_is_refused_with_its_place() -> None:
    block = np.ones((2, 3, 2, 4, 4), np.float32)
    block[1, 2, 1, 0, 3] = 3e7
    coding = Coding.about(np.zeros(2), np.array([1.0, 1e2]))
    with pytest.raises(DataError, match=r"^1/2/1: the value is 3e\+07, but .* from -4.192e\+06 to"):
        code_block(block, coding, lambda n, t, c: f"{n}/{t}/{c}", None)


def test_a_forcing_that_hardly_changes_keeps_its_increments(tmp_path: Path) -> None:
    # Ten days about New Year, in which the cosine of the year stays within 1 % of 1.
    source = {"names": ["velocity_x"], "dates": True, "latlon": True, "times": 40, "trajectories": 3}
    path = half(tmp_path, source, forcings=["cos_year", "insolation"], places=["cos_latitude"])
    roundings = {one["name"]: one["rounding"] for one in facts(path)["variables"]}
    assert 0 < roundings["cos_year"]["of_increments"] < 2e-3
    store, fields = open_store(path), analytic_fields(tmp_path, source, forcings=["cos_year", "insolation"])
    [night] = [number for number, one in enumerate(store.variables) if one.name == "insolation"]
    exact, found = fields.read(slice(0, 1), slice(0, 40))[0, :, night], store.read(0, 0, 40)[:, night]
    assert np.array_equal(found == 0, exact == 0)
    # Little light keeps its digits, too.
    np.testing.assert_allclose(found, exact, rtol=2**-11, atol=0)


def apebench(root: Path, values: NDArray[Any], **options: Any) -> Path:
    """A store in 16 bits of an array (trajectory, time, 1, y, x)."""
    np.save(root / "noise.npy", values.astype("f4"))
    source = {"kind": "apebench", "paths": str(root / "noise.npy"), "dt": 0.1, "length": 1.0}
    splits = {"kind": "trajectories", "valid": 1}
    stated = {"dataset": "noise", "source": source, "root": root, "dtype": "float16", "splits": splits}
    return build(BuildConfig.model_validate(stated | options))


def test_a_value_far_from_all_others_costs_them_no_digits(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(300, 10, size=(4, 3, 1, 16, 16)).astype("f4")
    values[1, 2, 0, 3, 4] = 1e7
    store = open_store(apebench(tmp_path, values))
    # APEBench's first axis of space is x.
    errors = np.stack([store.read(i, 0, 3) for i in range(4)]).swapaxes(-1, -2) - values
    assert abs(errors[1, 2, 0, 3, 4]) < 1e7 / 2048
    errors[1, 2, 0, 3, 4] = 0
    assert np.sqrt(np.square(errors).mean()) < 4e-4 * 10


@pytest.mark.parametrize(
    ("low", "spike", "why"),
    [(300, 1e20, r"300 \+- 1 with others 1e\+20 away"), (0, 1e-36, "so close to each other")],
)
def test_values_that_16_bits_would_lose_are_refused(
    tmp_path: Path, low: float, spike: float, why: str
) -> None:
    values = np.full((4, 3, 1, 16, 16), low, np.float64)
    values += np.where(np.arange(16) % 2, 1, -1) * min(1, spike)
    values[1, 2, 0, 3, 4] = spike
    with pytest.raises(DataError, match=rf"^u: dtype: float16 cannot hold values of .*{why}; correct"):
        apebench(tmp_path, values, accept=["missing_values", "spikes"])


def test_increments_that_drown_are_told_and_others_are_not(tmp_path: Path) -> None:
    # All frames of the analytic source are the same amount apart, so that what varies in that is rounding.
    path = half(tmp_path, RICH)
    assumed = open_store(path).assumptions or ()
    assert [one.field for one in assumed if one.code == "half_precision"] == [
        "velocity_x",
        "heating",
        "density",
    ]
    found = facts(path)
    assert found["dtype"] == "float16"
    roundings = {one["name"]: one["rounding"] for one in found["variables"]}
    assert 0 < roundings["velocity_x"]["of_values"] < 1e-3 < 0.05 < roundings["velocity_x"]["of_increments"]
    assert roundings["depth"]["of_increments"] is None
    assert "of increments" in inspect(path)
    noise = apebench(tmp_path, np.random.default_rng(0).normal(size=(4, 3, 1, 8, 8)))
    assert "half_precision" not in [one.code for one in open_store(noise).assumptions or ()]
    (variable,) = facts(noise)["variables"]
    assert variable["rounding"]["of_increments"] < 5e-4


def test_a_store_of_a_later_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = half(tmp_path)
    assert json.loads((path / "zarr.json").read_bytes())["attributes"]["pelagos"]["format"] == 2
    monkeypatch.setattr(store_module, "CODED_FORMAT", 1)  # as in a version of before there were others
    with pytest.raises(DataError, match="of format 2"):
        open_store(path)
