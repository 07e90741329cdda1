"""A module that leaves a mark when it is imported, as a stranger's would do worse."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# The source behind the stranger's store.
sys.path.insert(0, str(Path(__file__).parents[1] / "preprocessing"))

CODE = """
from pathlib import Path
from torch import nn
from analytic_source import Analytic

Path({mark!r}).touch()

class Net(nn.Conv2d):
    def __init__(self, signature):
        super().__init__(len(signature.inputs), len(signature.outputs), 3, padding=1)
    def forward(self, x, lead_time, context):
        return super().forward(x)
"""


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file that exists once the module `stranger` has been imported."""
    mark = tmp_path / "imported"
    code = tmp_path / "code"
    code.mkdir()
    (code / "stranger.py").write_text(CODE.format(mark=str(mark)))
    monkeypatch.syspath_prepend(str(code))
    importlib.invalidate_caches()
    yield mark
    sys.modules.pop("stranger", None)
