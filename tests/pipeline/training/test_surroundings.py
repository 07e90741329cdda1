"""What changes the last bits of a run is recorded with each checkpoint, and said when it differs on resuming."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from pelagos.pipeline.engine import checkpoint, checkpoint_writer
from pelagos.pipeline.engine.saved_tensors import whole_share
from pelagos.pipeline.tracking.code_version import PACKAGES
from pelagos.pipeline.training.surroundings import differences, surroundings
from pelagos.pipeline.training.trainer import Trainer


def test_threads_processes_and_versions_are_recorded() -> None:
    found = surroundings()
    assert found["threads"] == torch.get_num_threads()
    assert found["processes"] == 1
    assert set(PACKAGES) <= set(found["versions"])
    assert json.loads(json.dumps(found)) == found


def test_nothing_differs_from_itself_or_from_a_checkpoint_that_does_not_record_it() -> None:
    now = surroundings()
    assert differences(now, now) == []
    assert differences({"versions": {"pelagos": now["versions"]["pelagos"]}, "revision": None}, now) == []


@pytest.mark.parametrize("name", ["threads", "processes", "processor", "device"])
def test_each_that_differs_is_said(name: str) -> None:
    now = surroundings()
    assert differences({**now, name: "other"}, now) == [f"{name}: other then, {now[name]} now"]


@pytest.mark.parametrize("package", PACKAGES)
def test_another_version_of_a_package_is_said(package: str) -> None:
    now = surroundings()
    then = deepcopy(now)
    then["versions"][package] = "0.0.1"
    assert differences(then, now) == [f"{package}: 0.0.1 then, {now['versions'][package]} now"]


def test_a_resumed_run_says_and_keeps_what_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = surroundings()
    checkpoint_writer.save(tmp_path, 5, whole_share({}), {**now, "threads": now["threads"] + 1})
    _, values = checkpoint.load(checkpoint.path_of(tmp_path, 5))
    trainer = cast("Any", Trainer).__new__(Trainer)
    trainer._record = now
    trainer._say_changes(values, 5)
    said = f"threads: {now['threads'] + 1} then, {now['threads']} now"
    assert f"from step 5 under other conditions ({said})" in capsys.readouterr().err
    assert trainer._changes == [{"step": 5, "changed": [said]}]
    # The next checkpoint passes them on.
    trainer._say_changes({**now, "changes": trainer._changes}, 8)
    assert trainer._changes == [{"step": 5, "changed": [said]}]
    assert capsys.readouterr().err == ""
