import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import zarr
from analytic_source import Analytic, configuration, contents

from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.build.compare_stores import compare
from pelagos.preprocessing.build.group_writer import write_statistics
from pelagos.preprocessing.build.plan import make_plan
from pelagos.preprocessing.build.repair import repair
from pelagos.preprocessing.errors import ConfigError, DamagedFileError, DataError, MissingFileError
from pelagos.preprocessing.files.location import Url
from pelagos.preprocessing.safety.trust import trusting
from pelagos.preprocessing.store.manifest import verify
from pelagos.preprocessing.store.store import open_store

SOURCE = {"names": ["heating", "density", "velocity_x"], "static": "varying", "scalars": True}
# Points along each side and bytes of a chunk at most: frames, channels, rows, and rows that do not divide 11.
CUTS = [(8, 1 << 20), (8, 300), (8, 100), (11, 300)]


@pytest.fixture(autouse=True)
def trust() -> Iterator[None]:
    """The stores of these tests name the class that reads their sources."""
    with trusting(["analytic_source:Analytic"]):
        yield


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return build(configuration(tmp_path, {"static": "varying", "scalars": True}))


def test_damaged_and_missing_files_become_what_they_were(path: Path) -> None:
    before = contents(path)
    shard = path / "state/c/1/0/0/0/0"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    (path / "stats/mean/c/0").unlink()
    assert repair(path) == ["state/c/1/0/0/0/0", "stats/mean/c/0"]
    assert contents(path) == before
    assert not path.with_name(f"{path.name}.repairing").exists()


def test_sources_that_have_moved_are_read_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    np.save(tmp_path / "old/noise.npy", np.random.default_rng(0).normal(size=(4, 3, 1, 8, 8)).astype("f4"))
    source = {"kind": "apebench", "paths": str(tmp_path / "old/noise.npy"), "dt": 0.1, "length": 1.0}
    values = {"dataset": "noise", "source": source, "root": tmp_path / "stores"}
    store = build(BuildConfig.model_validate(values | {"splits": {"kind": "trajectories", "valid": 1}}))
    before = contents(store)
    (tmp_path / "old").rename(tmp_path / "new")
    for damaged in ("state/c/0/0/0/0/0", "stats/mean/c/0", "zarr.json"):
        (store / damaged).unlink()
    with pytest.raises(MissingFileError, match=r"noise\.npy.*--source OLD=NEW"):
        repair(store)
    with pytest.raises(ConfigError, match="was not built from /elsewhere"):
        repair(store, {"/elsewhere": str(tmp_path / "new")})
    assert len(repair(store, {str(tmp_path / "old"): str(tmp_path / "new")})) == 3
    assert contents(store) == before


def test_another_archive_is_not_taken_for_one_that_has_moved(tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("other", 1)):
        (tmp_path / name).mkdir()
        noise = np.random.default_rng(seed).normal(size=(4, 3, 1, 8, 8)).astype("f4")
        np.save(tmp_path / name / "noise.npy", noise)
    source = {"kind": "apebench", "paths": str(tmp_path / "one/noise.npy"), "dt": 0.1, "length": 1.0}
    values = {"dataset": "noise", "source": source, "root": tmp_path / "stores"}
    store = build(BuildConfig.model_validate(values | {"splits": {"kind": "trajectories", "valid": 1}}))
    (store / "state/c/0/0/0/0/0").unlink()
    with pytest.raises(DataError, match="built again, it differs"):
        repair(store, {str(tmp_path / "one"): str(tmp_path / "other")})


def test_a_whole_store_is_left_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Analytic) -> None:
        raise AssertionError("the source is not needed")

    monkeypatch.setattr(Analytic, "open", fail)
    assert repair(path) == []


def test_nothing_is_taken_that_differs_from_what_was_there(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard, values = path / "state/c/1/0/0/0/0", Analytic.values
    shard.unlink()
    monkeypatch.setattr(Analytic, "values", lambda self, name: values(self, name) + 1)
    with pytest.raises(DataError, match="state/c/1/0/0/0/0: cannot be repaired: built again, it differs"):
        repair(path)
    assert not shard.exists()
    assert not path.with_name(f"{path.name}.repairing").exists()


def test_a_store_on_a_server_is_not_repaired() -> None:
    with pytest.raises(ConfigError, match="can only be read; repair the copy"):
        repair(Url("https://host/a.zarr"))


@pytest.fixture
def compressed(tmp_path: Path) -> Path:
    return build(configuration(tmp_path, SOURCE, codec="blosc-lz4"))


def test_a_new_store_is_whole(compressed: Path) -> None:
    assert verify(compressed, sha256=True) == []
    assert repair(compressed) == []


@pytest.mark.parametrize("codec", ["none", "blosc-lz4"])
@pytest.mark.parametrize(("size", "largest"), CUTS[1:])
def test_stores_of_small_chunks_are_compared_verified_and_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str, size: int, largest: int
) -> None:
    source = SOURCE | {"size": size}
    whole = build(configuration(tmp_path, source, version="whole"))
    monkeypatch.setattr("pelagos.preprocessing.build.partition._CHUNK", largest)
    path = build(configuration(tmp_path, source, codec=codec))
    assert compare(path, whole).same
    assert verify(path, sha256=True) == []
    shutil.rmtree(path / "stats")
    (path / "state/c/1/0/0/0/0").unlink()
    static = path / "static/c/0/0/0/0"
    static.write_bytes(static.read_bytes()[:-40])
    assert {"state/c/1/0/0/0/0", "static/c/0/0/0/0"} < set(repair(path))
    assert verify(path, sha256=True) == []


def test_a_store_from_before_rows_were_cut_is_read_and_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pelagos.preprocessing.build.partition._CHUNK", 100)
    with monkeypatch.context() as earlier:
        earlier.setattr(
            "pelagos.preprocessing.build.build_store.make_plan", partial(make_plan, cut_rows=False)
        )
        path = build(configuration(tmp_path, SOURCE, codec="blosc-lz4"))
    assert zarr.open_array(path / "state", mode="r").chunks == (1, 1, 1, 8, 8)
    assert zarr.open_array(path / "static", mode="r").chunks == (1, 1, 8, 8)
    assert np.array_equal(open_store(path).read(2, 0, 5)[:, 0], Analytic(**SOURCE).values("velocity_x")[2])
    for name in ("state/c/1/0/0/0/0", "static/c/0/0/0/0", "state/zarr.json"):
        (path / name).unlink()
    assert len(repair(path)) == 3
    assert verify(path, sha256=True) == []


def test_a_large_mask_is_one_file_of_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pelagos.preprocessing.build.partition._CHUNK", 50)
    paths = {}
    for name, size in (("rows", 11), ("channels", 7)):
        with monkeypatch.context() as earlier:
            for version, cut in (("1", False), ("2", True)):
                earlier.setattr(
                    "pelagos.preprocessing.build.complete_store.write_statistics",
                    partial(write_statistics, cut_mask=cut),
                )
                config = configuration(
                    tmp_path, {"size": size, "sea": 2}, dataset=name, version=version, missing="keep"
                )
                paths[name, version] = build(config)
        masks = [zarr.open_array(paths[name, version] / "mask", mode="r") for version in "12"]
        assert masks[0].shards is None
        assert masks[1].chunks == {"rows": (1, 4, 11), "channels": (1, 7, 7)}[name]
        for mask, version in zip(masks, "12", strict=True):
            path = paths[name, version]
            assert np.array_equal(mask[:], open_store(path).mask)
            assert np.array_equal(mask[:], masks[0][:])
            (path / "mask/c/0/0/0").write_bytes(b"torn")
            assert repair(path) == ["mask/c/0/0/0"]
            assert verify(path) == []
    assert not np.all(masks[0][:])


@pytest.mark.parametrize("place", ["shard", "static", "stats/mean/c/0", "zarr.json", "split/c/0/0"])
def test_a_flipped_bit_is_found_and_exactly_that_file_is_mended(compressed: Path, place: str) -> None:
    places = {"shard": "state/c/2/0/0/0/0", "static": "static/c/1/0/0/0"}
    name = places.get(place, place)
    before = {
        file: (file.stat().st_ino, file.read_bytes()) for file in compressed.rglob("*") if file.is_file()
    }
    content = bytearray((compressed / name).read_bytes())
    content[len(content) // 2] ^= 4
    (compressed / name).write_bytes(content)
    (damage,) = verify(compressed)
    assert (damage.path, damage.kind) == (name, "checksum")
    assert "CRC-32C" in str(damage)
    assert repair(compressed) == [name]
    assert verify(compressed, sha256=True) == []
    after = {
        file: (file.stat().st_ino, file.read_bytes()) for file in compressed.rglob("*") if file.is_file()
    }
    assert {file: content for file, (_, content) in after.items()} == {f: c for f, (_, c) in before.items()}
    assert [file for file in after if after[file][0] != before[file][0]] == [compressed / name]


def test_a_flipped_byte_in_any_shard_is_found_and_mended(compressed: Path) -> None:
    rng = np.random.default_rng(0)
    shards = sorted(file for file in compressed.glob("st*/c/**/*") if file.is_file())
    assert len(shards) > 6
    whole = [shard.read_bytes() for shard in shards]
    for shard, content in zip(shards, whole, strict=True):
        place = int(rng.integers(len(content)))
        shard.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
    names = [str(shard.relative_to(compressed)) for shard in shards]
    assert [damage.path for damage in verify(compressed)] == names
    assert repair(compressed) == names
    assert [shard.read_bytes() for shard in shards] == whole


def test_lost_and_shortened_files_are_found_and_mended(compressed: Path) -> None:
    shutil.rmtree(compressed / "state" / "c" / "1")
    shutil.rmtree(compressed / "mask")
    short = compressed / "static/c/0/0/0/0"
    short.write_bytes(short.read_bytes()[:-1])
    (compressed / "state" / "junk").write_bytes(b"")
    kinds = {damage.path: damage.kind for damage in verify(compressed)}
    assert kinds.pop("state/junk") == "unexpected"
    assert kinds == {
        "mask/c/0/0/0": "missing",
        "mask/zarr.json": "missing",
        "state/c/1/0/0/0/0": "missing",
        "static/c/0/0/0/0": "size",
    }
    assert repair(compressed) == sorted(kinds)
    assert [damage.path for damage in verify(compressed)] == ["state/junk"]


@pytest.mark.parametrize("static", ["none", "common"])
def test_statistics_are_mended_from_the_shards(tmp_path: Path, static: str) -> None:
    path = build(configuration(tmp_path, {"static": static, "times": 9}, shard_bytes=1024))
    shutil.rmtree(path / "stats")
    mended = repair(path)
    assert all(name.startswith("stats/") for name in mended)
    assert verify(path, sha256=True) == []


def test_a_damaged_manifest_is_found_and_cannot_be_repaired(compressed: Path) -> None:
    manifest = compressed / "_build" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"bytes": 1', '"bytes": 2', 1))
    (damage,) = verify(compressed)
    assert (damage.path, damage.kind) == ("_build/manifest.json", "manifest")
    assert "fails its own checksum" in damage.detail
    with pytest.raises(DamagedFileError, match="with overwrite=true"):
        repair(compressed)
