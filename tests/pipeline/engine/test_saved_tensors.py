"""Tensors of checkpoints are read piece by piece, of those that one process wrote whole in earlier versions too."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pelagos.pipeline.engine import checkpoint, checkpoint_writer
from pelagos.pipeline.engine.saved_tensors import (
    PieceMap,
    SavedTensors,
    TensorGroups,
    file_of,
    whole_share,
)
from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.files.durable import json_checksum, sha256

WHOLE: TensorGroups = {
    "weights": {"a": torch.arange(14.0).reshape(7, 2), "b": torch.arange(3.0), "count": torch.tensor(4)},
    "moments": {"exp_avg.a": -torch.arange(14.0).reshape(7, 2), "exp_avg.b": torch.ones(3)},
}
# a in runs of 2, 5, 5 and 2 elements over ranks 0 to 3, b in the last alone.
CUTS = {
    "a": {"shape": (7, 2), "runs": [(0, 1, 2), (1, 2, 5), (3, 1, 2)]},
    "b": {"shape": (3,), "runs": [(3, 1, 3)]},
}


def written_by_four(folder: Path) -> SavedTensors:
    """The files and map of four processes."""
    folder.mkdir()
    flat = {
        f"{group}/{name}": tensor.reshape(-1)
        for group, named in WHOLE.items()
        for name, tensor in named.items()
    }
    cuts = [(0, 2), (2, 7), (7, 12), (12, 14)]
    for rank, (first, last) in enumerate(cuts):
        held = {key: flat[key][first:last] for key in ("weights/a", "moments/exp_avg.a")}
        if rank == 3:
            held |= {key: flat[key] for key in ("weights/b", "moments/exp_avg.b")}
        if rank == 0:
            held["weights/count"] = WHOLE["weights"]["count"]
        save_file(held, folder / file_of(rank))
    pieces = {
        "groups": {"weights": [""], "moments": ["exp_avg."], "average": [""]},
        "cuts": CUTS,
        "whole": {"weights": ["count"]},
        "completed_by": {"average": "weights"},
    }
    return SavedTensors(folder, {"pieces": pieces})


def written_by_one(folder: Path) -> SavedTensors:
    """The files of earlier versions: whole tensors, one file for each group, and no map."""
    folder.mkdir()
    for group, named in WHOLE.items():
        save_file(named, folder / f"{group}.safetensors")
    digests = {file.name: sha256(file) for file in folder.iterdir()}
    state = {"step": 3, "sha256": digests}
    (folder / "state.json").write_text(json.dumps({**state, "checksum": json_checksum(state)}))
    return checkpoint.saved_tensors(folder)[0]


@pytest.mark.parametrize("write", [written_by_four, written_by_one])
def test_whole_tensors_and_any_elements_of_them_come_back(tmp_path: Path, write: object) -> None:
    saved = write(tmp_path / "step-00000003")  # type: ignore[operator]
    for group, named in WHOLE.items():
        assert sorted(saved.names(group)) == sorted(named)
        for name, tensor in named.items():
            assert torch.equal(saved.tensor(group, name), tensor)
            flat = tensor.reshape(-1)
            for first in range(len(flat)):
                for last in range(first, len(flat) + 1):
                    assert torch.equal(saved.read(group, name, first, last - first), flat[first:last])


def test_a_checkpoint_of_an_earlier_version_is_loaded_and_a_changed_byte_found(tmp_path: Path) -> None:
    path = tmp_path / "step-00000003"
    written_by_one(path)
    tensors, values = checkpoint.load(path)
    assert values["step"] == 3
    assert tensors.keys() == WHOLE.keys()
    content = bytearray((path / "moments.safetensors").read_bytes())
    content[-1] ^= 1
    (path / "moments.safetensors").write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"moments\.safetensors .* fails its checksum"):
        checkpoint.load(path)


def test_what_a_group_lacks_is_that_of_the_group_which_completes_it(tmp_path: Path) -> None:
    saved = written_by_four(tmp_path / "step")
    assert "count" in saved.names("average")
    assert int(saved.tensor("average", "count")) == 4


def test_a_map_that_the_files_contradict_is_refused(tmp_path: Path) -> None:
    checkpoint_writer.save(tmp_path, 1, whole_share({"weights": {"a": torch.ones(4)}}), {})
    path = checkpoint.path_of(tmp_path, 1)
    runs = [(0, 1, 2), (0, 1, 2)]
    pieces = PieceMap.model_validate(
        {"groups": {"weights": [""]}, "cuts": {"a": {"shape": [4], "runs": runs}}}
    )
    saved = SavedTensors(path, {"pieces": pieces.model_dump()})
    with pytest.raises(DamagedFileError, match=r"rank-00000.safetensors holds another piece of weights/a"):
        saved.tensor("weights", "a")
    huge = {"groups": {"weights": [""]}, "cuts": {"a": {"shape": [10**15], "runs": [(0, 1, 4)]}}}
    with pytest.raises(DamagedFileError, match="weights lacks elements of a"):
        SavedTensors(path, {"pieces": huge}).tensor("weights", "a")
    with pytest.raises(DamagedFileError, match=r"state\.json has no map of pieces"):
        SavedTensors(path, {"pieces": {"cuts": {"a": {"shape": [4], "runs": [(0, 1, 0)]}}}})
