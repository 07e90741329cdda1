"""torch-cfd's `.pt` files: the real one is read as torch reads it; what only its maker knows is asked for."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.file_source import FileSource
from pelagos.preprocessing.sources.formats.torch_cfd import TorchCFD
from tests.preprocessing.sources.contracts import SourceContract


class TestTorchCFD(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> FileSource:
        folder = tmp_path_factory.mktemp("flow")
        for i, count in enumerate((2, 3)):
            fields = {
                key: torch.randn(count, 4, 6, 8) for key in ("vorticity", "stream", "vort_t", "residual")
            }
            torch.save(
                fields | {"random_states": torch.arange(count)}, folder / f"McWilliams_v1e-3_T5_{i}.pt"
            )
        return TorchCFD(paths=f"{folder}/*.pt", dt=0.25, length=2.0)


def test_the_real_file_is_read_as_torch_reads_it(shared: Path) -> None:
    path = shared / "data/pde/torchcfd_fnodata_64x64_N12_v1e-3_T20.pt"
    ds = TorchCFD(paths=str(path), dt=1, length=1).open()
    tensors = torch.load(path, weights_only=True)
    np.testing.assert_array_equal(ds.vorticity, tensors["vorticity"])
    np.testing.assert_array_equal(ds.stream_function, tensors["stream"])
    assert "random_states" in tensors  # seeds of the generator are no parameters of the flow
    assert convention.in_role(ds, "scalar") == ["viscosity"]
    assert float(ds.viscosity) == 0.001
    assert ds.stream_function.attrs["role"] == "diagnostic"


def test_rows_are_y(tmp_path: Path) -> None:
    fields = torch.zeros(1, 2, 4, 8)
    fields[0, 1, 3, 5] = 7
    torch.save({"vorticity": fields}, tmp_path / "a.pt")
    ds = TorchCFD(paths=str(tmp_path / "a.pt"), dt=1, length=8).open()
    assert float(ds.vorticity.sel(trajectory=0, time=1, y=6, x=5)) == 7


def test_times_and_lengths_are_asked_for(tmp_path: Path) -> None:
    torch.save({"vorticity": torch.zeros(1, 2, 4, 4)}, tmp_path / "flow_T20.pt")
    path = str(tmp_path / "flow_T20.pt")
    with pytest.raises(ConfigError, match=r"dt: .*flow_T20\.pt .* between its 2 frames, up to time 20"):
        TorchCFD(paths=path).open()
    with pytest.raises(ConfigError, match=r"length: .*flow_T20\.pt"):
        TorchCFD(paths=path, dt=10).open()


def test_files_without_a_vorticity_over_time_are_refused(tmp_path: Path) -> None:
    for content, message in (
        ({"stream": torch.zeros(1, 2, 4, 4)}, r"no tensor 'vorticity'; it holds stream"),
        ({"vorticity": torch.zeros(2, 4, 4)}, r"vorticity has shape \(2, 4, 4\); \(sample, time, y, x\)"),
    ):
        torch.save(content, tmp_path / "a.pt")
        with pytest.raises(DataError, match=message):
            TorchCFD(paths=str(tmp_path / "a.pt"), dt=1, length=1).open()
