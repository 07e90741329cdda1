"""Run folders: nothing is done twice, and nothing of another run is overwritten."""

from pathlib import Path

import pytest
import yaml
from pydantic import Field

from pelagos.pipeline.runs.run_folder import claim, fingerprint, finish, finished, note_code, record
from pelagos.preprocessing.config import Changeable, Config
from pelagos.preprocessing.errors import ConfigError, DamagedFileError


class Section(Config):
    """A part of a stage."""

    rate: float = 0.1
    threads: Changeable[int] = 1


class Stage(Config):
    """A stage with changeable fields at every depth."""

    output: Changeable[Path] = Path("run")
    steps: int = 4
    section: Section = Section()
    sections: tuple[Section, ...] = ()
    named: dict[str, Section] = Field(default_factory=dict)


def test_a_fingerprint_depends_on_values_and_inputs() -> None:
    assert fingerprint(Stage(), "a") == fingerprint(Stage(steps=4), "a")
    assert len({fingerprint(Stage(), "a"), fingerprint(Stage(), "b"), fingerprint(Stage(steps=5), "a")}) == 3


@pytest.mark.parametrize(
    "other",
    [
        Stage(output=Path("elsewhere")),
        Stage(section=Section(threads=2)),
        Stage(sections=(Section(threads=2),)),
        Stage(named={"a": Section(threads=2)}),
    ],
)
def test_changeable_fields_count_only_where_they_are_asked_for(other: Stage) -> None:
    one = Stage(sections=(Section(),) * len(other.sections), named={name: Section() for name in other.named})
    assert fingerprint(one) != fingerprint(other)
    assert fingerprint(one, changeable=True) == fingerprint(other, changeable=True)


@pytest.mark.parametrize("other", [Stage(steps=5), Stage(sections=(Section(rate=0.2),))])
def test_all_other_fields_always_count(other: Stage) -> None:
    one = Stage(sections=(Section(),) * len(other.sections))
    assert fingerprint(one, changeable=True) != fingerprint(other, changeable=True)


def test_a_run_is_finished_for_its_own_fingerprint_alone(tmp_path: Path) -> None:
    assert finished(tmp_path, "mine") is None
    finish(tmp_path, "mine", {"steps": 4})
    assert finished(tmp_path, "mine") == {"steps": 4}
    assert finished(tmp_path, "other") is None


def test_a_folder_holds_the_resolved_configuration_of_its_run(tmp_path: Path) -> None:
    claim(tmp_path / "run", Stage(), "mine")
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["section"]["rate"] == 0.1
    claim(tmp_path / "run", Stage(), "mine")


def test_a_folder_of_another_run_is_refused_and_left_alone(tmp_path: Path) -> None:
    claim(tmp_path, Stage(), "mine")
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    before = (tmp_path / "config.yaml").read_bytes()
    with pytest.raises(ConfigError, match="holds a run of another configuration"):
        claim(tmp_path, Stage(steps=5), "other")
    assert (tmp_path / "config.yaml").read_bytes() == before


def test_a_folder_records_each_code_that_worked_on_its_run(tmp_path: Path) -> None:
    first, second = {"revision": "a"}, {"revision": "b"}
    note_code(tmp_path, first)
    assert not list(tmp_path.iterdir())  # a folder that no run has claimed
    claim(tmp_path, Stage(), "digest")
    for code in (first, first, second):
        note_code(tmp_path, code)
    assert record(tmp_path) == {"fingerprint": "digest", "code": [first, second]}


def test_a_folder_whose_run_never_began_is_free(tmp_path: Path) -> None:
    claim(tmp_path, Stage(), "mine")
    claim(tmp_path, Stage(steps=5), "other")
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["steps"] == 5


TORN = [b"", b"{", b"null", b"{}", b'{"fingerprint": 3}', b"\xff\x00", b"\0" * 40]


@pytest.mark.parametrize("content", TORN)
def test_a_damaged_claim_is_said_and_nothing_is_touched(tmp_path: Path, content: bytes) -> None:
    claim(tmp_path, Stage(), "mine")
    (tmp_path / "run.json").write_bytes(content)
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises(DamagedFileError, match=r"run\.json is damaged: .*; it says which run .*config\.yaml"):
        claim(tmp_path, Stage(), "mine")
    assert (tmp_path / "run.json").read_bytes() == content
    (tmp_path / "run.json").unlink()
    claim(tmp_path, Stage(), "mine")


@pytest.mark.parametrize(
    "content", [*TORN, b'{"fingerprint": "mine"}', b'{"fingerprint": "mine", "summary": 3}']
)
def test_a_damaged_end_is_said_and_counts_as_none(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "done.json").write_bytes(content)
    assert finished(tmp_path, "mine") is None
    assert "done.json is damaged" in capsys.readouterr().err
