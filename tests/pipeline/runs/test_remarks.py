"""A remark is said once in a command."""

import pytest

from pelagos.pipeline.runs.remarks import once, say


def test_a_line_is_said_once_within_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        with once():
            for line in ("a", "b", "a"):
                say(line)
    say("a")
    assert capsys.readouterr().err == "a\nb\na\nb\na\n"
