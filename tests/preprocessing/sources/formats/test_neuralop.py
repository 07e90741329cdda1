"""neuraloperator's files: the two real ones are read as torch reads them, others are asked about or refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.sources.file_source import FileSource
from pelagos.preprocessing.sources.formats.neuralop import NeuralOp
from tests.preprocessing.sources.contracts import SourceContract


def save(path: Path, **tensors: object) -> str:
    torch.save(tensors, path)
    return str(path)


class TestDarcy(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> FileSource:
        folder = tmp_path_factory.mktemp("darcy")
        for i, count in enumerate((2, 3)):
            save(folder / f"darcy_{i}.pt", x=torch.rand(count, 6, 4) > 0.5, y=torch.randn(count, 6, 4))
        return NeuralOp(paths=f"{folder}/darcy_*.pt")


class TestBurgers(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> FileSource:
        y = torch.randn(4, 5, 8, dtype=torch.float64)
        path = tmp_path_factory.mktemp("burgers") / "burgers.pt"
        return NeuralOp(paths=save(path, x=y[:, 0], y=y, visc=torch.tensor([[0.01]])))


def test_the_real_darcy_file_is_read_as_torch_reads_it(shared: Path) -> None:
    path = shared / "data/pde/neuralop/darcy_train_16.pt"
    ds, tensors = NeuralOp(paths=str(path)).open(), torch.load(path, weights_only=True)
    np.testing.assert_array_equal(ds.solution[:, 0], tensors["y"])
    np.testing.assert_array_equal(ds.permeability, tensors["x"])
    assert (ds.solution.attrs["role"], ds.permeability.attrs["role"]) == ("diagnostic", "static")
    assert ds.attrs["boundary_y"] == "wall,wall"


def test_the_real_burgers_file_is_read_as_torch_reads_it(shared: Path) -> None:
    path = shared / "data/pde/neuralop/burgers_train_16.pt"
    ds, tensors = NeuralOp(paths=str(path)).open(), torch.load(path, weights_only=True)
    np.testing.assert_array_equal(ds.u[:, :, 0], tensors["y"])
    np.testing.assert_array_equal(ds.u[:, 0, 0], tensors["x"])
    assert float(ds.viscosity) == 0.01
    assert (len(ds.time), float(ds.time[-1]), ds.attrs["boundary_x"]) == (17, 1.0, "periodic,periodic")


def test_an_ambiguous_file_is_asked_about(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pt", x=torch.randn(3, 4, 4), y=torch.randn(3, 4, 4))
    with pytest.raises(
        ConfigError, match=r"a\.pt could hold several .* set problem: darcy, problem: burgers"
    ):
        NeuralOp(paths=path).open()
    assert "permeability" in NeuralOp(paths=path, problem="darcy").open()


def test_viscosities_belong_to_their_trajectories(tmp_path: Path) -> None:
    y = torch.randn(3, 5, 8)
    path = save(tmp_path / "a.pt", x=y[:, 0], y=y, visc=torch.tensor([[1.0], [2.0], [3.0]]))
    ds = NeuralOp(paths=path, dt=0.5).open()
    np.testing.assert_array_equal(ds.viscosity, [1, 2, 3])
    np.testing.assert_array_equal(ds.time, [0, 0.5, 1, 1.5, 2])
    wrong = save(tmp_path / "b.pt", x=y[:, 0], y=y, visc=torch.ones(2))
    with pytest.raises(DataError, match=r"b\.pt: visc has 2 values for 3 trajectories"):
        NeuralOp(paths=wrong).open()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"x": torch.ones(2)}, r"a\.pt: no tensor 'y'; it holds x"),
        ({"x": torch.ones(2), "y": torch.ones(2, 3)}, r"y has shape \(2, 3\); \(sample, time, x\) or"),
        ([torch.ones(2)], r"holds a list; a dictionary of tensors would be right"),
        ({"x": Path("a")}, r"a\.pt: holds more than tensors"),
    ],
)
def test_files_of_something_else_are_refused(content: object, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(DataError, match=message):
        NeuralOp(paths=str(tmp_path / "a.pt")).open()
