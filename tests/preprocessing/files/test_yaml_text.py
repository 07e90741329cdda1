"""YAML of strangers neither fills the memory nor the stack."""

import time

import pytest
import yaml

from pelagos.preprocessing.files.yaml_text import read_yaml_text

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 30)
)
MERGES = "a0: &a0 {k: v}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 30)
)


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, r"its aliases \(\*name\) make \d{20,} values of \d+"),
        (MERGES, "its aliases"),
        ("a: &a [*a]", "contains it"),
        ("[" * 100_000, "nested more than 100 deep"),
        ("- " * 100_000, "nested more than 100 deep"),
        ("x" * (5 << 20), "characters"),
        ("a: [1,\n b", "flow sequence"),
        ("!!python/object/apply:os.mkdir [x]", "could not determine a constructor"),
    ],
    ids=["laughs", "merges", "cycle", "brackets", "dashes", "long", "broken", "code"],
)
def test_what_would_explode_is_refused_within_a_second(text: str, message: str, quick: bool) -> None:
    begin = time.process_time()  # not the clock, which depends on what else the machine does
    with pytest.raises(yaml.YAMLError, match=message):
        read_yaml_text(text, quick=quick)
    assert time.process_time() - begin < 1


@pytest.mark.parametrize("quick", [False, True])
def test_plain_yaml_is_what_the_safe_loader_makes_of_it(quick: bool) -> None:
    text = "base: &b {x: 1, y: [a, 2.5]}\nover: {<<: *b, x: 2}\nagain: [*b, *b]\n"
    assert read_yaml_text(text, quick=quick) == yaml.safe_load(text)
    assert read_yaml_text("", quick=quick) is None


@pytest.mark.parametrize("quick", [False, True])
def test_a_key_that_is_set_twice_is_told_with_both_lines(quick: bool) -> None:
    with pytest.raises(yaml.YAMLError, match="line 4 sets steps again, after line 2"):
        read_yaml_text("loop:\n  steps: 10\n  keep: 2\n  steps: 20\n", quick=quick)
    # A merged mapping may be overruled, and other mappings have keys of their own.
    text = "base: &base {steps: 10}\nloops: [{<<: *base, steps: 20}, {steps: 30}]\n"
    assert [one["steps"] for one in read_yaml_text(text, quick=quick)["loops"]] == [20, 30]
