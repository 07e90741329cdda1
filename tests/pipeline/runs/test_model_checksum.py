"""Whatever of a model folder changes is refused; folders of before are loaded, with a word on what is not checked."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pelagos.models.context import Signature
from pelagos.models.networks.fourier.fno import FNOConfig
from pelagos.pipeline.runs.model_checksum import model_checksum
from pelagos.pipeline.runs.model_folder import Model, load
from pelagos.preprocessing.errors import DamagedFileError
from tests.byte_changes import one_bit_changes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config = FNOConfig(width=2, modes=(1, 1), num_layers=1)
    signature = Signature(("u",), ("u",), shape=(4, 4))
    Model(config, config.build(signature), signature, {}, {"note": "a"}).save(tmp_path / "model")
    return tmp_path / "model"


def of_before(folder: Path) -> Path:
    """The folder as earlier versions wrote it."""
    (folder / "SHA256SUMS").unlink()
    values = json.loads((folder / "model.json").read_text())
    del values["checksums"]
    (folder / "model.json").write_text(json.dumps(values, indent=1) + "\n")
    return folder


def test_sixty_changes_of_a_byte_are_refused(folder: Path) -> None:
    assert load(folder).history == {"note": "a"}
    rng = np.random.default_rng(0)
    for file in (folder / name for name in ("model.json", "weights.safetensors", "SHA256SUMS")):
        for _ in one_bit_changes(file, 20, rng):
            with pytest.raises(DamagedFileError):
                load(folder)
    load(folder)


def test_a_list_that_was_left_behind_is_missed(folder: Path) -> None:
    (folder / "SHA256SUMS").unlink()
    with pytest.raises(DamagedFileError, match=r"SHA256SUMS: missing, though model\.json names it"):
        load(folder)


def test_a_folder_of_before_is_loaded_with_a_word_on_what_is_not_checked(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = load(folder).network.state_dict()
    assert capsys.readouterr().err == ""
    loaded = load(of_before(folder)).network.state_dict()
    assert all((loaded[name] == weights[name]).all() for name in weights)
    assert "model.json (variables, units, scales) is not" in capsys.readouterr().err
    changed = bytearray((folder / "weights.safetensors").read_bytes())
    changed[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(changed)
    with pytest.raises(DamagedFileError, match="fails its checksum"):
        load(folder)


def test_the_checksum_is_of_the_content_in_folders_of_before_too(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    assert model_checksum(copy) == model_checksum(folder)
    before = model_checksum(of_before(copy))
    assert before != model_checksum(folder)
    (copy / "notes.txt").write_text("not of the model")
    assert model_checksum(copy) == before
