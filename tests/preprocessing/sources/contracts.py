"""What holds for every source and every writer: subclass, give the fixtures, get the tests."""

import pickle  # noqa: TID251  # what Dask's workers are sent
import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import yaml
from pydantic import TypeAdapter

from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import DamagedFileError, DataError, MissingFileError
from pelagos.preprocessing.inspection.proposal import propose
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.file_source import FileSource
from pelagos.preprocessing.sources.formats.source import Source
from pelagos.preprocessing.sources.writer import BlockWriter
from pelagos.preprocessing.store.manifest import verify
from pelagos.preprocessing.store.store import open_store


def copy(path: Path, to: Path) -> None:
    if path.is_dir():
        shutil.copytree(path, to)
    else:
        shutil.copy(path, to)


class SourceContract:
    """A format's tests define the fixture `source`: a configuration of existing files."""

    @pytest.fixture
    def source(self) -> FileSource:
        raise NotImplementedError

    @pytest.fixture
    def ds(self, source: FileSource) -> xr.Dataset:
        return source.open()

    def test_the_dataset_is_in_the_convention(self, ds: xr.Dataset) -> None:
        convention.check(ds)
        assert convention.in_role(ds, "prognostic", "diagnostic")

    def test_opening_reads_no_field(self, source: FileSource, elements_read: list[int]) -> None:
        source.open()
        assert elements_read == []

    def test_a_slice_reads_no_more_than_itself(self, ds: xr.Dataset, elements_read: list[int]) -> None:
        name = convention.in_role(ds, "prognostic", "diagnostic")[0]
        block = ds[name].isel(trajectory=slice(0, 1), time=slice(0, 1)).load()
        assert 0 < sum(elements_read) <= block.size

    def test_selecting_and_loading_commute(self, ds: xr.Dataset) -> None:
        choices: list[dict[str, Any]] = [
            {"trajectory": [-1, 0, -1], "x": slice(None, None, -2)},
            {"time": slice(0, None, 2), "y": [0, -1]},
            {"time": -1, "trajectory": 0, "x": slice(0, 0)},
        ]
        loaded = ds.compute()
        for choice in choices:
            xr.testing.assert_identical(ds.isel(choice).compute(), loaded.isel(choice))

    def test_the_dataset_can_be_pickled(self, ds: xr.Dataset) -> None:
        xr.testing.assert_identical(pickle.loads(pickle.dumps(ds)), ds)

    def test_threads_read_the_same(self, ds: xr.Dataset) -> None:
        name = convention.in_role(ds, "prognostic", "diagnostic")[0]
        times = list(range(ds.sizes["time"])) * 3
        with ThreadPoolExecutor(4) as pool:
            frames = list(pool.map(lambda time: ds[name].isel(time=time).values, times))
        for time, frame in zip(times, frames, strict=True):
            np.testing.assert_array_equal(frame, ds[name].isel(time=time).values)

    def test_dask_reads_the_same(self, ds: xr.Dataset) -> None:
        xr.testing.assert_identical(ds.chunk(trajectory=1, time=2).compute(), ds.compute())

    def test_the_configuration_survives_yaml(self, source: FileSource) -> None:
        kind = source.model_dump()["kind"]
        text = yaml.safe_dump(source.model_dump(mode="json", exclude_defaults=True) | {"kind": kind})
        assert TypeAdapter(Source).validate_python(yaml.safe_load(text)) == source

    def test_a_missing_file_is_named_with_its_neighbour(self, source: FileSource, tmp_path: Path) -> None:
        here = tmp_path / source.files()[0].name
        copy(source.files()[0], here)
        wrong = here.with_name(here.name.replace(here.stem, here.stem + "1"))
        with pytest.raises(MissingFileError, match=f"{wrong.name}.*did you mean {here.name}"):
            source.model_copy(update={"paths": (str(wrong),)}).open()

    def test_the_configuration_that_inspect_prints_builds(
        self, source: FileSource, ds: xr.Dataset, tmp_path: Path
    ) -> None:
        text = propose(source.paths[0])
        values = yaml.safe_load(text) | {"root": tmp_path}
        assert values.pop("command") == "build"
        assert values["source"]["kind"] == source.model_dump()["kind"]
        if "before it can be built" in text or len(source.paths) > 1:
            values["source"] |= source.model_dump(mode="json", exclude_defaults=True)
        path = build(BuildConfig.model_validate(values))
        assert verify(path) == []
        store = open_store(path)
        names = [variable.key for variable in store.variables]
        frames = store.read(store.num_trajectories - 1, 0, store.num_times)
        for name in convention.in_role(ds, "prognostic", "diagnostic"):
            for field in [ds[name]] if "level" not in ds[name].dims else ds[name].transpose("level", ...):
                key = f"{name}@{float(field.level):g}" if "level" in field.coords else name
                expected = field[-1].values.astype(np.float32)
                np.testing.assert_array_equal(frames[:, names.index(key)], expected)

    @pytest.mark.parametrize("kept", [0, 60, 0.45])
    def test_a_truncated_file_is_named(self, source: FileSource, tmp_path: Path, kept: float) -> None:
        torn = tmp_path / source.files()[0].name
        copy(source.files()[0], torn)
        file = self.vital(torn)
        content = file.read_bytes()
        file.write_bytes(content[: int(kept if kept >= 1 else kept * len(content))])
        with pytest.raises(DamagedFileError, match=torn.name):
            source.model_copy(update={"paths": (str(torn),)}).open().compute()

    def test_a_file_of_another_format_is_named(self, source: FileSource, tmp_path: Path) -> None:
        page = tmp_path / source.files()[0].name
        copy(source.files()[0], page)
        self.vital(page).write_text("<html>404: not found</html>" * 100)
        with pytest.raises(DamagedFileError, match=page.name):
            source.model_copy(update={"paths": (str(page),)}).open().compute()

    def vital(self, path: Path) -> Path:
        """The file itself, or of a folder one that holds a field."""
        return path


class WriterContract:
    """A writer's tests define `writer`, a dataset `ds` that it can hold, and `read`.

    `filename` is what the format wants it to be; `read` gives the dataset of a path.
    """

    writer: type[BlockWriter]
    filename: str

    @pytest.fixture
    def ds(self) -> xr.Dataset:
        raise NotImplementedError

    def read(self, path: Path, ds: xr.Dataset) -> xr.Dataset:
        raise NotImplementedError

    def put(self, path: Path, ds: xr.Dataset, *cuts: int) -> None:
        ends = (0, *cuts, ds.sizes["trajectory"])
        with self.writer(path, ds, ds.sizes["trajectory"]) as writer:
            for start, stop in pairwise(ends):
                writer.append(ds.isel(trajectory=slice(start, stop)))

    def test_what_is_written_is_read(self, ds: xr.Dataset, tmp_path: Path) -> None:
        self.put(tmp_path / self.filename, ds)
        found = self.read(tmp_path / self.filename, ds)
        xr.testing.assert_allclose(found, ds, rtol=0, atol=1e-15)
        for name in ds.data_vars:
            np.testing.assert_array_equal(found[name], ds[name])
        assert convention.grid_of(found).to_json() == convention.grid_of(ds).to_json()

    def test_blocks_write_what_one_block_writes(self, ds: xr.Dataset, tmp_path: Path) -> None:
        self.put(tmp_path / "one" / self.filename, ds)
        self.put(tmp_path / "many" / self.filename, ds, 1, 1, 2)
        one, many = (self.read(tmp_path / folder / self.filename, ds) for folder in ("one", "many"))
        xr.testing.assert_equal(one, many)

    def test_an_interrupted_writer_leaves_what_was_there(self, ds: xr.Dataset, tmp_path: Path) -> None:
        path = tmp_path / self.filename
        path.write_text("old")

        def interrupted() -> None:
            with self.writer(path, ds, 3) as writer:
                writer.append(ds.isel(trajectory=slice(0, 1)))
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]

    def test_missing_trajectories_are_an_error(self, ds: xr.Dataset, tmp_path: Path) -> None:
        writer = self.writer(tmp_path / self.filename, ds, 3)
        writer.append(ds.isel(trajectory=slice(0, 2)))
        with pytest.raises(DataError, match="2 of 3 trajectories"):
            writer.close()
        assert list(tmp_path.iterdir()) == []

    def test_too_many_trajectories_are_an_error(self, ds: xr.Dataset, tmp_path: Path) -> None:
        match = "3 trajectories for a file of 2"
        with pytest.raises(DataError, match=match), self.writer(tmp_path / self.filename, ds, 2) as writer:
            writer.append(ds)

    def test_blocks_of_another_grid_or_other_fields_are_errors(self, ds: xr.Dataset, tmp_path: Path) -> None:
        name = convention.in_role(ds, "prognostic")[0]
        for block, message in (
            (ds.assign_coords(time=ds.time * 2), "time differs"),
            (ds.drop_vars(name), f"lacks {name}"),
            (ds.assign(more=ds[name]), "more, which the template lacks"),
        ):
            path = tmp_path / self.filename
            with pytest.raises(DataError, match=message), self.writer(path, ds, 3) as writer:
                writer.append(block)
        assert list(tmp_path.iterdir()) == []
