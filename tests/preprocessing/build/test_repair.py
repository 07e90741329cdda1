from pathlib import Path

import pytest
from analytic_source import Analytic, configuration, contents

from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.build.repair import repair
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.location import Url


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
