"""A finding reads as a line."""

from pelagos.pipeline.checking.check_finding import CheckFinding, warning


def test_a_finding_is_a_line_that_begins_with_what_it_is_about() -> None:
    assert str(CheckFinding("network", "12 parameters", {"parameters": 12})) == "network: 12 parameters"
    assert str(warning("no test split")) == "WARNING: no test split"
