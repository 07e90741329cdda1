"""What goes wrong at a user's hand ends with one clear message, no traceback, and nothing lost."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml
from typer.testing import CliRunner, Result

from pelagos.pipeline.cli import app
from pelagos.preprocessing.grid import Grid, Sides
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.formats import pdebench_writer
from pelagos.preprocessing.variables import known_variable

CONFIG = {"command": "build", "dataset": "flow", "splits": {"kind": "trajectories", "test": 1}}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def fails(result: Result, code: int, *parts: str) -> None:
    """The command has ended with this code and one message that holds all parts."""
    assert result.exit_code == code, result.output
    assert result.output.count("error: ") == 1
    assert "Traceback" not in result.output
    for part in parts:
        assert part in result.output


def archive(path: Path, poison: float | None = None) -> Path:
    """Three trajectories in PDEBench's layout of flow; `poison` replaces one value."""
    rng = np.random.default_rng(0)
    axis = np.arange(8) / 8
    names = ("density", "velocity_x", "velocity_y", "pressure")
    values = {name: rng.normal(size=(3, 4, 8, 8)).astype(np.float32) for name in names}
    if poison is not None:
        values["pressure"][1, 2, 3, 4] = poison
    variables = {
        name: xr.Variable(convention.TIME_DIMS, field, convention.attrs(name, known_variable(name).role))
        for name, field in values.items()
    }
    periodic: Sides = ("periodic", "periodic")
    ds = convention.assemble(
        variables,
        grid=Grid("cartesian", axis, axis, periodic, periodic),
        time=np.arange(4) * 0.1,
        dataset="flow",
        source_format="test",
        sources=(),
        num_trajectories=3,
    )
    pdebench_writer.write(ds, path)
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with an archive and a configuration that builds it."""
    monkeypatch.chdir(tmp_path)
    archive(tmp_path / "2D_CFD_periodic.hdf5")
    source = {"kind": "pdebench", "paths": "2D_CFD_periodic.hdf5"}
    (tmp_path / "build.yaml").write_text(yaml.safe_dump({**CONFIG, "source": source}))
    return tmp_path


@pytest.fixture
def store(folder: Path) -> Path:
    """The store of that archive."""
    result = run("build", "build.yaml")
    assert result.exit_code == 0, result.output
    return folder / "stores" / "flow" / "flow-1.zarr"


def test_an_unknown_key_and_a_wrong_type_are_named_together(folder: Path) -> None:
    result = run("build", "build.yaml", "codeq=none", "workers=many")
    fails(result, 2, "2 error(s)", "codeq: unknown key; did you mean 'codec'?", "workers: ", "'many'")


def test_a_missing_configuration_and_a_missing_archive_are_named(folder: Path) -> None:
    fails(run("build", "bild.yaml"), 1, "no configuration bild.yaml")
    fails(run("build", "build.yaml", "source.paths=2D_CFD_periodik.hdf5"), 1, "2D_CFD_periodik.hdf5")


def test_a_configuration_of_another_command_is_refused(folder: Path) -> None:
    fails(run("evaluate", "build.yaml"), 2, "command: Input should be 'evaluate' (found 'build')")


def test_a_truncated_archive_is_named_and_leaves_no_store(folder: Path) -> None:
    file = folder / "2D_CFD_periodic.hdf5"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    fails(run("build", "build.yaml"), 1, "2D_CFD_periodic.hdf5")
    assert not (folder / "stores" / "flow" / "flow-1.zarr").exists()


def test_nan_is_located_and_can_be_kept_on_request(folder: Path) -> None:
    archive(folder / "2D_CFD_periodic.hdf5", poison=np.nan)
    fails(run("build", "build.yaml"), 1, "pressure", "trajectory 1", "missing: keep")
    result = run("build", "build.yaml", "missing=keep", "overwrite=true")
    assert result.exit_code == 0, result.output


def test_infinity_is_always_an_error(folder: Path) -> None:
    archive(folder / "2D_CFD_periodic.hdf5", poison=np.inf)
    fails(run("build", "build.yaml", "missing=keep"), 1, "pressure", "trajectory 1")


def test_a_damaged_shard_is_found_and_mended(store: Path) -> None:
    whole = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    shard = max(whole, key=lambda path: len(whole[path]))
    content = bytearray(whole[shard])
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    fails(run("verify", store), 1, str(shard.relative_to(store)), "pelagos repair")
    result = run("repair", store)
    assert result.exit_code == 0, result.output
    assert {path: path.read_bytes() for path in store.rglob("*") if path.is_file()} == whole
    assert run("verify", store).exit_code == 0


def test_a_folder_that_is_no_store_is_refused(folder: Path) -> None:
    (folder / "empty.zarr").mkdir()
    for command in ("inspect", "verify", "repair"):
        fails(run(command, "empty.zarr"), 1, "empty.zarr")
        fails(run(command, "nothing.zarr"), 1, "nothing.zarr")


def test_compare_ends_with_1_where_stores_differ(store: Path) -> None:
    result = run("compare", store, store)
    assert (result.exit_code, "the same content" in result.output) == (0, True)
    assert run("build", "build.yaml", "version=2", "splits.test=2").exit_code == 0
    result = run("compare", store, store.with_name("flow-2.zarr"))
    assert result.exit_code == 1
    assert "split: 4 frames are train in the first store, test in the second" in result.output
    fails(run("compare", store, "nothing.zarr"), 1, "nothing.zarr")


def test_an_unknown_alias_says_which_models_there_are(store: Path) -> None:
    values = {"command": "forecast", "model": "models:/flow@best", "store": str(store), "output": "f.zarr"}
    (store.parents[2] / "forecast.yaml").write_text(yaml.safe_dump(values))
    result = run("forecast", "forecast.yaml", "tracking.uri=sqlite:///mlflow.db", "starts.split=test")
    fails(result, 1, "no model 'flow' in the registry", "there are: none")


def test_a_rollout_that_is_longer_than_the_trajectories_is_refused(store: Path) -> None:
    values = {"command": "forecast", "model": "nowhere", "store": str(store), "output": "f.zarr"}
    (store.parents[2] / "forecast.yaml").write_text(yaml.safe_dump(values))
    fails(run("forecast", "forecast.yaml", "starts.steps=9"), 1, "no forecast of 9 steps")


@pytest.mark.parametrize("split", ["valid", "tset"])
def test_a_split_without_frames_says_which_ones_there_are(store: Path, split: str) -> None:
    values = {"command": "forecast", "model": "nowhere", "store": str(store), "output": "f.zarr"}
    (store.parents[2] / "forecast.yaml").write_text(yaml.safe_dump(values))
    result = run("forecast", "forecast.yaml", f"starts.split={split}")
    fails(result, 1, f"has the splits train, test, not '{split}'")


def test_a_finished_store_is_kept_when_the_configuration_changes(store: Path) -> None:
    before = (store / "zarr.json").read_bytes()
    fails(run("build", "build.yaml", "coarsen=2"), 2, "flow-1.zarr", "version")
    assert (store / "zarr.json").read_bytes() == before
    shutil.rmtree(store)
    assert run("build", "build.yaml", "coarsen=2").exit_code == 0


def test_check_prints_what_a_configuration_resolves_to(folder: Path) -> None:
    result = run("check", "build.yaml", "codec=blosc-lz4")
    assert result.exit_code == 0
    assert yaml.safe_load(result.output)["codec"] == "blosc-lz4"
