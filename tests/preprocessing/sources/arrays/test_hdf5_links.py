"""Files that hold part of what an HDF5 file shows are found, however they are linked."""

from pathlib import Path

import h5py
import numpy as np

from pelagos.preprocessing.sources.arrays.hdf5_links import linked_files

VALUES = np.arange(6.0)


def plain(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        file["values"] = VALUES
    return path


def test_external_links_count_at_any_depth_and_in_circles(tmp_path: Path) -> None:
    far = plain(tmp_path / "inner" / "far.h5")
    near = plain(tmp_path / "inner" / "near.h5")
    with h5py.File(near, "a") as file:
        file["far"] = h5py.ExternalLink("far.h5", "/values")
        file["back"] = h5py.ExternalLink("../first.h5", "/")
    first = plain(tmp_path / "first.h5")
    with h5py.File(first, "a") as file:
        file["group/near"] = h5py.ExternalLink("inner/near.h5", "/values")
        file["soft"] = h5py.SoftLink("/values")
    assert {path.resolve() for path in linked_files(first)} == {near, far}


def test_sources_of_virtual_datasets_count(tmp_path: Path) -> None:
    parts = [plain(tmp_path / f"part{n}.h5") for n in range(2)]
    layout = h5py.VirtualLayout((2, 6), "f8")
    for n, part in enumerate(parts):
        layout[n] = h5py.VirtualSource(part.name, "values", (6,))
    with h5py.File(tmp_path / "whole.h5", "w") as file:
        file.create_virtual_dataset("values", layout)
    assert sorted(linked_files(tmp_path / "whole.h5")) == parts


def test_raw_files_of_values_count(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "header.h5", "w") as file:
        file.create_dataset(
            "values", data=VALUES, external=[(str(tmp_path / "raw.bin"), 0, h5py.h5f.UNLIMITED)]
        )
    assert linked_files(tmp_path / "header.h5") == [tmp_path / "raw.bin"]


def test_other_files_and_missing_ones_are_no_sources(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no HDF5")
    assert linked_files(tmp_path / "text") == []
    assert linked_files(tmp_path) == []
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["gone"] = h5py.ExternalLink("gone.h5", "/")
    assert linked_files(tmp_path / "a.h5") == []
