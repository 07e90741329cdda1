"""Assumptions are collected, counted, asked about and refused."""

import logging
import re
from pathlib import Path

import pytest

from pelagos.preprocessing.assumptions import KINDS, Assumption, ask, assume, collect, require_answers
from pelagos.preprocessing.errors import ConfigError


def test_what_is_assumed_within_a_block_is_collected_in_the_order_of_kinds() -> None:
    with collect() as found:
        assume("calendar", "time", "a.nc: noleap")
        assume("fields_not_read", "", "a.nc: u and v")
    assert [one.code for one in found.all] == ["fields_not_read", "calendar"]


def test_the_like_of_many_files_is_one_assumption_with_a_count_and_a_file_read_twice_counts_once() -> None:
    with collect() as found:
        for file in ("a.nc", "b.nc", "c.nc", "a.nc"):
            assume("longitudes_unwrapped", "lon", f"{file}: 350 to 10 became -10 to 10")
    (one,) = found.all
    assert one.count == 3
    assert str(one).endswith("350 to 10 became -10 to 10; and 2 more like it")


def test_the_inner_of_two_blocks_collects_for_itself() -> None:
    with collect() as outer, collect() as inner:
        assume("calendar", "time", "noleap")
    assert not outer.all
    assert len(inner.all) == 1


def test_outside_a_block_an_assumption_is_logged_and_not_lost(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assume("boundary", "x", "a.nc: taken as open")
    assert "boundary (x): a.nc: taken as open; to decide it: set source.boundary" in caplog.text


def test_a_question_is_refused_with_all_others_until_the_configuration_decides() -> None:
    with collect() as found:
        assume("calendar", "time", "noleap")
        ask("boundary", "", "a.nc: taken as open", "source.boundary: wall")
        ask("grid", "", "a.nc: taken as Cartesian")
    with pytest.raises(
        ConfigError, match=r"(?s)boundary: a.nc.*source.boundary: wall.*grid: .*accept"
    ) as error:
        require_answers(found.all, (), strict=False)
    assert "noleap" not in str(error.value)
    require_answers(found.all, ("boundary", "grid"), strict=False)


def test_strict_refuses_every_assumption_but_those_accepted() -> None:
    with collect() as found:
        assume("calendar", "time", "noleap")
    require_answers(found.all, (), strict=False)
    require_answers(found.all, ("calendar",), strict=True)
    with pytest.raises(ConfigError, match=r"strict.*\n.*noleap"):
        require_answers(found.all, (), strict=True)


def test_an_assumption_survives_json() -> None:
    one = Assumption("grid", "y", "text", "answer", question=True, count=2)
    assert Assumption(**one.to_json()) == one


def test_codes_are_words_that_can_stand_in_yaml() -> None:
    assert all(code.replace("_", "").isalpha() and code.islower() for code in KINDS)


def test_the_page_lists_all_kinds_in_their_order() -> None:
    page = Path(__file__).parents[2] / "docs" / "assumptions.md"
    rows = re.findall(r"^\| `(\w+)` \|", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert rows == list(KINDS)
