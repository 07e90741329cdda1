from pathlib import Path

import pytest
from analytic_source import configuration

from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import DataError, MissingFileError
from pelagos.preprocessing.inspection.inspect_path import inspect
from pelagos.preprocessing.sources.formats.cf import CF
from pelagos.preprocessing.store.store import Store, open_store

SOURCE = {"names": ["heating", "density", "velocity_x"], "static": "varying", "scalars": True}


def test_a_store_is_told_on_one_screen(tmp_path: Path) -> None:
    source = {
        "static": "varying",
        "scalars": True,
        "missing": (0, 1),
        "levels": [500, 850],
        "level_units": "hPa",
    }
    text = inspect(build(configuration(tmp_path, source, missing="keep", bits={"velocity_x": 7})))
    assert "analytic 1: 6 trajectories of 5 frames, 4 channels, 8 x 8 points" in text
    assert "time step   0.25 s" in text
    assert "grid        cartesian, beyond the edges: y wall, wall; x periodic, periodic" in text
    assert "levels      2 from 500 to 850 hPa" in text
    assert "scalars     viscosity" in text
    assert "missing     4 values" in text
    assert "velocity_x@500" in text
    assert "train       4 trajectories, 20 frames" in text
    assert "built from  external" in text
    assert len(text.splitlines()) < 30


def test_what_is_no_store_is_taken_for_an_archive(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(b"hello")
    with pytest.raises(DataError, match=r"notes\.txt: no format recognises it"):
        inspect(tmp_path / "notes.txt")
    with pytest.raises(MissingFileError):
        inspect(tmp_path / "nothing")


def test_a_store_that_is_not_complete_is_not_taken_for_an_archive(tmp_path: Path) -> None:
    growing = build(configuration(tmp_path, part="1/2"))
    with pytest.raises(MissingFileError, match=r"analytic-1\.zarr"):
        inspect(growing.with_name("analytic-1.zarr"))
    assert "analytic-1.zarr" in inspect(tmp_path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return build(configuration(tmp_path, SOURCE, codec="blosc-lz4"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(build(configuration(tmp_path_factory.mktemp("stores"), SOURCE)))


def test_inspect_lists_the_stores_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [build(configuration(tmp_path, SOURCE, dataset=name)) for name in ("whole", "torn", "half")]
    (paths[1] / "split/c/0/0").unlink()
    with pytest.raises(KeyboardInterrupt):
        build(configuration(tmp_path, SOURCE, dataset="half", overwrite=True, version="2"), interrupted)
    text = inspect(tmp_path)
    assert f"{paths[0]}\n    whole 1: 6 trajectories of 5 frames, 3 channels, 8 x 8 points\n" in text
    assert f"{paths[1]}\n    {paths[1]}/split/c/0/0: missing; `pelagos repair` mends the store\n" in text
    assert f"{paths[2].with_name('half-2.zarr')}\n    no such store; its build is not complete" in text
    assert "pelagos pretrain CONFIG data.0.path=STORE" in text
    assert inspect(paths[0].parent).count("whole-1.zarr\n") == 1
    monkeypatch.chdir(tmp_path)
    assert inspect(".") == text.replace(f"{tmp_path}/", "").replace(f"{tmp_path} holds", ". holds")


def interrupted(done: int, num: int) -> None:
    if done:
        raise KeyboardInterrupt


def test_a_store_is_not_taken_for_an_archive(path: Path) -> None:
    with pytest.raises(DataError, match=f"{path}: a store of Pelagos: train on it as data.0.path={path}, or"):
        CF(paths=(str(path),)).open()


def test_inspect_tells_what_is_inside(store: Store) -> None:
    text = inspect(store.path)
    assert "6 trajectories of 5 frames, 3 channels, 8 x 8 points" in text
    assert "0.25 s" in text
    assert "y wall, wall; x periodic, periodic" in text
    assert "viscosity" in text
    for line in ("velocity_x", "heating", "density", "depth"):
        assert line in text
    assert "4 trajectories, 20 frames" in text
