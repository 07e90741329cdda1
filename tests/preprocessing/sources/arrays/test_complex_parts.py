"""Complex numbers become two real fields, whatever file they are in, and nothing of them is lost."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
import torch
import xarray as xr

from pelagos.preprocessing.assumptions import collect
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.arrays.complex_parts import ComplexPart, is_pair, of_pairs
from pelagos.preprocessing.sources.arrays.derived_arrays import MemoryArray
from pelagos.preprocessing.sources.formats.apebench import APEBench
from pelagos.preprocessing.sources.formats.fno_data import FNOData
from pelagos.preprocessing.sources.formats.pdebench import PDEBench
from pelagos.preprocessing.sources.formats.torch_cfd import TorchCFD
from pelagos.preprocessing.store.store import open_store

RNG = np.random.default_rng(0)
WAVE = (RNG.normal(size=(6, 4)) + 1j * RNG.normal(size=(6, 4))).astype(np.complex64)  # (x, t)
AXES = {"x": np.arange(6.0), "t": np.arange(4.0)}


def pdebench(folder: Path) -> str:
    with h5py.File(folder / "a.hdf5", "w") as file:
        file["tensor"] = WAVE.T[None]
        file["x-coordinate"], file["t-coordinate"] = AXES["x"], AXES["t"]
    return str(folder / "a.hdf5")


def matlab_5(folder: Path, *, compressed: bool = False) -> str:
    scipy.io.savemat(folder / "a.mat", {**AXES, "uu": WAVE}, do_compression=compressed)
    return str(folder / "a.mat")


def matlab_73(folder: Path) -> str:
    """As MATLAB writes complex numbers: pairs called real and imag."""
    pairs = np.empty(WAVE.T.shape, [("real", "f4"), ("imag", "f4")])
    pairs["real"], pairs["imag"] = WAVE.T.real, WAVE.T.imag
    with h5py.File(folder / "a.mat", "w", userblock_size=512) as file:
        file["uu"] = pairs
        for key, values in AXES.items():
            file[key] = values[:, None]
    with (folder / "a.mat").open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file".ljust(128))
    return str(folder / "a.mat")


def torch_dictionary(folder: Path) -> str:
    values = {key: torch.from_numpy(one) for key, one in {**AXES, "uu": WAVE}.items()}
    torch.save(values, folder / "a.pt")
    return str(folder / "a.pt")


def numpy_dictionary(folder: Path) -> str:
    np.savez(folder / "a.npz", uu=WAVE, x=AXES["x"], t=AXES["t"])
    return str(folder / "a.npz")


SOLUTION = {"boundary": {"y": "periodic", "x": "periodic"}}


@pytest.mark.parametrize(
    ("save", "kind", "options"),
    [
        (pdebench, PDEBench, {}),
        (matlab_5, FNOData, SOLUTION),
        (lambda folder: matlab_5(folder, compressed=True), FNOData, SOLUTION),
        (matlab_73, FNOData, SOLUTION),
        (torch_dictionary, FNOData, SOLUTION),
        (numpy_dictionary, FNOData, SOLUTION),
    ],
)
def test_both_parts_are_read_from_every_file(tmp_path: Path, save: Any, kind: Any, options: Any) -> None:
    with collect() as found:
        ds = kind(paths=save(tmp_path), **options).open()
    assert convention.in_role(ds, "prognostic") == ["u_real", "u_imag"]
    np.testing.assert_array_equal(ds.u_real[0, :, 0], WAVE.T.real)
    np.testing.assert_array_equal(ds.u_imag[0, :, 0], WAVE.T.imag)
    assert any(one.code == "complex_parts" and "complex64" in one.text for one in found.all)


def test_a_store_has_both_parts_as_channels(tmp_path: Path) -> None:
    source = {"kind": "pdebench", "paths": pdebench(tmp_path)}
    store = open_store(
        build(BuildConfig.model_validate({"dataset": "a", "root": tmp_path, "source": source}))
    )
    assert [variable.key for variable in store.variables] == ["u_real", "u_imag"]
    np.testing.assert_array_equal(store.read(0, 0, 4)[:, 1, 0], WAVE.T.imag)


def test_arrays_of_numpy_and_flows_of_torch_are_split_too(tmp_path: Path) -> None:
    values = (RNG.normal(size=(2, 3, 1, 8)) + 1j).astype(np.complex128)
    np.save(tmp_path / "1d_x_train.npy", values)
    ds = APEBench(paths=str(tmp_path / "1d_x_train.npy"), dt=1, length=1).open()
    np.testing.assert_array_equal(ds.u_imag, np.ones((2, 3, 1, 8)))
    torch.save({"vorticity": torch.full((1, 2, 4, 4), 2 - 3j)}, tmp_path / "a.pt")
    flow = TorchCFD(paths=str(tmp_path / "a.pt"), dt=1, length=1).open()
    assert (flow.vorticity_real == 2).all()
    assert (flow.vorticity_imag == -3).all()


def test_a_dataset_with_complex_fields_is_not_in_the_convention(tmp_path: Path) -> None:
    ds = PDEBench(paths=pdebench(tmp_path)).open()
    wrong = ds.assign(u=xr.Variable(ds.u_real.dims, ds.u_real.values + 1j, ds.u_real.attrs))
    with pytest.raises(
        DataError, match=r"variable u is complex64.*its real and its imaginary part as two fields"
    ):
        convention.check(wrong)


def test_pairs_keep_infinite_parts_apart() -> None:
    pairs = np.array([(1.0, np.inf), (np.nan, 2.0)], [("real", "f8"), ("imag", "f8")])
    assert is_pair(pairs.dtype)
    joined = of_pairs(MemoryArray(pairs, "u"))
    assert joined.dtype == np.complex128
    parts = {part: ComplexPart(joined, part).read((slice(None),)) for part in ("real", "imag")}
    np.testing.assert_array_equal(parts["real"], [1, np.nan])
    np.testing.assert_array_equal(parts["imag"], [np.inf, 2])
