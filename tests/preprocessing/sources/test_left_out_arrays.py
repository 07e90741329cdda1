"""What a dictionary of arrays holds beside what is read is named, in each kind of file."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
import torch

from pelagos.preprocessing.assumptions import collect
from pelagos.preprocessing.sources.formats.fno_data import FNOData

U = np.random.default_rng(0).normal(size=(3, 8, 6, 4)).astype("f4")
FLOW: dict[str, Any] = {"a": U[..., 0], "u": U, "t": np.arange(1.0, 5.0)}


def save(path: Path, arrays: dict[str, Any], words: dict[str, str]) -> None:
    if path.suffix == ".pt":
        torch.save({key: torch.from_numpy(one) for key, one in arrays.items()} | words, path)
    elif path.suffix == ".npz":
        texts: dict[str, Any] = {key: np.array(one) for key, one in words.items()}
        np.savez(path, **arrays, **texts)
    elif path.stem == "hdf5":
        with h5py.File(path, "w") as file:
            for key, one in (arrays | words).items():
                file[key] = one
    else:
        scipy.io.savemat(path, arrays | words)


@pytest.mark.parametrize("name", ["a.pt", "a.npz", "a.mat", "hdf5.mat"])
def test_other_arrays_and_text_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "whole").mkdir()
    save(tmp_path / "whole" / name, FLOW, {})
    save(tmp_path / name, FLOW | {"v": U, "seed": np.ones(1)}, {"notes": "by hand"})
    told = []
    for path in (tmp_path / "whole" / name, tmp_path / name):
        with collect() as assumed:
            FNOData(paths=str(path), axes="python" if name == "hdf5.mat" else None).open()
        told.append([one.text for one in assumed.all if one.code == "fields_not_read"])
    assert told[0] == []
    assert any("v (3, 8, 6, 4), which are not read" in text for text in told[1])
    assert any("notes (" in text and "no arrays of numbers" in text for text in told[1])
