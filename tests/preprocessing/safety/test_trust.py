"""Which classes a tree of values names, and which of them count as named by the user."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pelagos.preprocessing.errors import ConfigError, UntrustedCodeError
from pelagos.preprocessing.safety.trust import class_paths, foreign_reason, require_trust, trusting

ASKS = {"data": [{"source": {"kind": "external", "path": "their.module:Class"}}]}


def test_classes_are_found_at_any_depth_and_data_are_none() -> None:
    assert class_paths(ASKS) == ["their.module:Class"]
    assert class_paths({"source": ({"kind": "external", "path": "a b"},)}) == ["a b"]
    assert class_paths([{"path": "stores/a.zarr"}, {"path": "https://host/a"}, "a:b", {"kind": "cf"}]) == []


def test_trust_is_for_the_named_class_while_the_block_runs() -> None:
    with trusting(["their.module:Class"]), trusting(["mine:Net"]):
        require_trust(ASKS, "file")
    with (
        trusting(["their.module:Other"]),
        pytest.raises(UntrustedCodeError, match="--trust their"),
    ):
        require_trust(ASKS, "file")


def test_another_thread_trusts_nothing() -> None:
    with trusting(["their.module:Class"]), ThreadPoolExecutor(1) as pool, pytest.raises(UntrustedCodeError):
        pool.submit(require_trust, ASKS, "file").result()


@pytest.mark.parametrize("path", ["os", "os:", "os.system", "a b:C", "a:b:c"])
def test_what_is_no_class_path_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="must have the form"), trusting([path]):
        pass


def test_a_file_of_the_users_own_speaks_for_them(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.touch(mode=0o644)
    assert not foreign_reason(file)
    file.chmod(0o646)
    assert "written by everybody" in foreign_reason(file)
