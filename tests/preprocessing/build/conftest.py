"""Fixtures that the tests of builds share."""

from typing import Any

import pytest
from analytic_source import configuration, contents

from pelagos.preprocessing.build.build_store import build


@pytest.fixture(scope="session")
def rich() -> dict[str, Any]:
    """Arguments of a source with all that a store can hold."""
    return {"trajectories": 8, "static": "varying", "scalars": True}


@pytest.fixture(scope="session")
def undisturbed(rich: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a build of the rich source makes in one process and in one go."""
    return contents(build(configuration(tmp_path_factory.mktemp("undisturbed"), rich)))
