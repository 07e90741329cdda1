from pathlib import Path

import pytest
from analytic_source import configuration

from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.sources.formats.external import ExternalSource


def test_an_external_source_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)cannot make 'analytic_source:Analytic'.*colour"):
        build(configuration(tmp_path, {"colour": "red"}))
    with pytest.raises(ConfigError, match=r"cannot make 'nowhere:Nothing' \(package.module:Class\)"):
        ExternalSource(kind="external", path="nowhere:Nothing").open()
