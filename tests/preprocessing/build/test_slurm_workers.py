import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from analytic_source import configuration

from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import ConfigError


def test_workers_on_slurm_without_slurm_are_a_clear_error(
    rich: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configuration(tmp_path, rich, workers={"kind": "slurm", "jobs": 2})
    monkeypatch.setitem(sys.modules, "dask_jobqueue", SimpleNamespace(SLURMCluster=None))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match="there is no sbatch on this machine"):
        build(config)
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(ConfigError, match=r"needs dask-jobqueue: pip install 'pelagos\[slurm\]'"):
        build(config)
