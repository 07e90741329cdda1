"""What training reads of a store is what was written, or it is not read."""

from pathlib import Path

import numpy as np
import pytest
from analytic_source import configuration

from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import ConfigError, DamagedFileError, PelagosError
from pelagos.preprocessing.files.durable import checksum
from pelagos.preprocessing.files.location import Url
from pelagos.preprocessing.samples.dataset import DatasetConfig
from pelagos.preprocessing.store import store as module
from pelagos.preprocessing.store.manifest import read_manifest
from pelagos.preprocessing.store.shard_checks import ShardChecks, Verify
from pelagos.preprocessing.store.small_files import read_small_files
from pelagos.preprocessing.store.store import open_store

SOURCE = {"names": ["heating", "density", "velocity_x"], "static": "varying", "scalars": True}


@pytest.fixture(params=["none", "blosc-lz4"])
def path(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return build(configuration(tmp_path, SOURCE, codec=request.param))


def read_all_samples(path: Path, verify: Verify) -> None:
    """What training reads: every sample once, in batches."""
    dataset = DatasetConfig(path=path, verify=verify).open()
    dataset.batch(np.arange(dataset.num_samples))


def flipped(file: Path, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1 << place % 8
    file.write_bytes(content)


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The shards that are checked, in order."""
    files: list[Path] = []
    whole = ShardChecks.check

    def noted(self: ShardChecks, file: Path, key: str, descriptor: int) -> None:
        files.append(file)
        whole(self, file, key, descriptor)

    monkeypatch.setattr(ShardChecks, "check", noted)
    return files


def test_a_hundred_changes_of_a_byte_are_never_read_in_silence(path: Path, checked: list[Path]) -> None:
    read_all_samples(path, "frames")
    # Shards of validation and test alone are read by no sample of training.
    shards = sorted(set(checked))
    small = [path / name for name in read_small_files(path, read_manifest(path))]
    assert len(shards) >= 4
    assert len(small) > 20
    rng = np.random.default_rng(0)
    for number in range(100):
        files = (small, shards)[number % 2]
        file = files[int(rng.integers(len(files)))]
        content = file.read_bytes()
        flipped(file, int(rng.integers(len(content))))
        with pytest.raises(PelagosError):
            read_all_samples(path, "frames")
        file.write_bytes(content)
    read_all_samples(path, "frames")


def test_by_default_everything_but_the_contents_of_shards_is_checked(tmp_path: Path) -> None:
    path = build(configuration(tmp_path, SOURCE))
    [shard] = path.glob("state/c/0/0/0/0/0")
    content = shard.read_bytes()
    flipped(shard, 5)
    read_all_samples(path, "opening")
    with pytest.raises(
        DamagedFileError, match=r"CRC-32C \w+ where \w+ was written; `pelagos repair` mends it"
    ):
        read_all_samples(path, "frames")
    shard.write_bytes(content)
    flipped(path / "split/c/0/0", 3)
    with pytest.raises(DamagedFileError, match="split/c/0/0: CRC-32C"):
        read_all_samples(path, "opening")
    open_store(path, verify="none")


def test_a_shard_is_checked_once(path: Path, checked: list[Path]) -> None:
    store = open_store(path, verify="frames")
    for _ in range(3):
        for trajectory in range(store.num_trajectories):
            store.read(trajectory, 0, 2)
    assert len(checked) == len(set(checked)) > 1


def test_another_size_is_found_without_reading(tmp_path: Path) -> None:
    file = tmp_path / "c"
    file.write_bytes(bytes(10))
    checks = ShardChecks({"c": checksum(file)})
    file.write_bytes(bytes(11))
    with file.open("rb") as opened, pytest.raises(DamagedFileError, match="11 bytes where 10 were written"):
        checks.check(file, "c", opened.fileno())
    with file.open("rb") as opened, pytest.raises(DamagedFileError, match="does not know this shard"):
        checks.check(file, "d", opened.fileno())


def test_files_are_checked_piece_by_piece(tmp_path: Path) -> None:
    file = tmp_path / "c"
    file.write_bytes(np.random.default_rng(0).bytes((1 << 20) * 2 + 17))
    checks = ShardChecks({"c": checksum(file)}, contents=True)
    checks.check_all(tmp_path)
    for place in (0, 1 << 20, (1 << 21) + 16):
        flipped(file, place)
        with pytest.raises(DamagedFileError, match="CRC-32C"):
            checks.check_all(tmp_path)
        flipped(file, place)
    file.unlink()
    with pytest.raises(DamagedFileError, match="the shard is missing"):
        checks.check_all(tmp_path)


def test_shards_on_a_server_are_not_read_whole() -> None:
    with pytest.raises(ConfigError, match="verify: frames is for stores in folders"):
        module._checks(Url("https://host/a.zarr"), "state", None, "frames", None)
