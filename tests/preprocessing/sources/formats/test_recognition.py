"""Recognition: what is proposed for unknown archives says why, asks what it must, and is YAML throughout."""

import glob
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import xarray as xr
import yaml

from pelagos.preprocessing.errors import DamagedFileError, DataError, MissingFileError
from pelagos.preprocessing.inspection.proposal import propose
from pelagos.preprocessing.sources.formats.list_archive import list_archive
from pelagos.preprocessing.sources.formats.recognition import recognise


def test_evidence_confidence_and_questions_are_told(tmp_path: Path) -> None:
    path = tmp_path / "flow_v1e-3_T20.pt"
    torch.save({"vorticity": torch.zeros(2, 5, 4, 4)}, path)
    text = propose(path)
    assert f"# {path}: certain torch_cfd" in text
    assert "vorticity (2, 5, 4, 4)" in text
    assert "#   source.dt: time between its 5 frames, up to time 20 by its name" in text
    assert yaml.safe_load(text) == {
        "command": "build",
        "dataset": "flow_v1e-3_T20",
        "source": {"kind": "torch_cfd", "paths": str(path)},
    }


def test_an_answer_uncommented_makes_it_complete(tmp_path: Path) -> None:
    path = tmp_path / "flow.pt"
    torch.save({"vorticity": torch.zeros(2, 5, 4, 4)}, path)
    text = propose(path).replace("# dt:  #", "dt: 1.0  #").replace("# length:  #", "length: 1.0  #")
    assert yaml.safe_load(text)["source"] == {
        "kind": "torch_cfd",
        "paths": str(path),
        "dt": 1.0,
        "length": 1.0,
    }


def test_nothing_is_guessed_between_problems_of_equal_shapes(tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(3, 4, 4), "y": torch.zeros(3, 4, 4)}, tmp_path / "a.pt")
    _, (finding,) = recognise(tmp_path / "a.pt")
    assert (finding.confidence, dict(finding.ask)) == ("likely", {"problem": "darcy, forced_flow or burgers"})


def test_sets_of_pdegym_are_known_by_their_names(tmp_path: Path) -> None:
    for name in ("NS-Sines", "NS-BB"):
        (tmp_path / name).mkdir()
        with h5py.File(tmp_path / name / "velocity_0.nc", "w") as file:
            file["velocity"] = np.zeros((4, 21, 3, 8, 8), "f4")
        values = yaml.safe_load(propose(tmp_path / name))
        assert (values["dataset"], values["source"]["dataset"]) == (name, name)
        assert values["splits"] == {"kind": "trajectories", "valid": 1, "test": 1}
    (tmp_path / "NS-Sines").rename(tmp_path / "else")
    text = propose(tmp_path / "else")
    assert "possible pdegym" in text
    assert "source.dataset: its set, one of NS-Sines" in text


def test_a_folder_or_a_pattern_of_files_is_one_archive(tmp_path: Path) -> None:
    tmp_path = tmp_path / "run[1]"
    tmp_path.mkdir()
    for i in range(3):
        torch.save({"x": torch.ones(2, 4, 4) > 0, "y": torch.zeros(2, 4, 4)}, tmp_path / f"part_{i}.pt")
    (tmp_path / "README").write_text("about")
    for path in (tmp_path, f"{glob.escape(str(tmp_path))}/part_*.pt"):
        text = propose(path)
        assert "as the first of its 3 files says, part_0.pt" in text
        assert "6 trajectories" in text
        assert yaml.safe_load(text)["dataset"] == "run_1"
    np.save(tmp_path / "a.npy", np.zeros((2, 3, 1, 4)))
    with pytest.raises(
        DataError, match=r"several kinds \(1 \.npy, 3 \.pt\); name .* '.*/run\[\[\]1\]/\*\.npy'"
    ):
        list_archive(tmp_path)


def test_missing_values_are_kept_and_single_trajectories_split_by_date(tmp_path: Path) -> None:
    axes = ("time", "lat", "lon")
    fields = xr.Dataset(
        {"t": (axes, np.ones((10, 4, 5), "f4"))},
        {
            "time": np.datetime64("2020-01-01", "ns") + np.arange(10) * np.timedelta64(1, "D"),
            "lat": np.arange(4.0),
            "lon": np.arange(5.0),
        },
    )
    fields.t[0, 0, 0] = np.nan
    fields.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    values = yaml.safe_load(propose(tmp_path / "a.nc"))
    assert values["missing"] == "keep"
    assert values["splits"] == {
        "kind": "time",
        "train": [None, "2020-01-09T00:00:00"],
        "valid": ["2020-01-09T00:00:00", "2020-01-10T00:00:00"],
        "test": ["2020-01-10T00:00:00", None],
    }


def test_what_the_source_asks_is_asked_here(shared: Path) -> None:
    text = propose(shared / "data/weather/eraint_uvz.nc")
    assert "likely cf" in text
    assert "z has 2 values along month" in text
    assert "as in axes: {time: month}" in text


def test_several_possibilities_are_all_named(shared: Path) -> None:
    text = propose(shared / "data/weather/credit/test_interp.nc")
    assert "certain credit" in text
    assert "it may also be cf" in text


def test_what_is_barely_possible_is_not_named_beside_what_is_certain(shared: Path) -> None:
    assert [finding.kind for finding in recognise(shared / "data/weather/anemoi_uk2t.zarr")[1]] == ["anemoi"]


def test_what_nobody_knows_is_said_with_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(range(64)))
    with pytest.raises(
        DataError, match=r"a\.bin: no format recognises it: its first bytes.* docs/own-data\.md"
    ):
        propose(tmp_path / "a.bin")
    np.savez(tmp_path / "a.npz", u=np.zeros(3))
    with pytest.raises(DataError, match=r"a\.npz: no format recognises it"):
        propose(tmp_path / "a.npz")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["group/w"] = np.zeros((3, 4))
    with pytest.raises(DataError, match=r"it is hdf5 and holds group/w \(3, 4\)"):
        propose(tmp_path / "b.h5")
    with pytest.raises(MissingFileError, match=r"a\.bim: no such file; did you mean a\.bin"):
        propose(tmp_path / "a.bim")
    (tmp_path / "c.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(DamagedFileError, match=r"c\.npy: not a whole \.npy file"):
        propose(tmp_path / "c.npy")
