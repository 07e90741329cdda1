"""The spool: every record is in the file, and every one is sent once."""

import json
from pathlib import Path

import pytest

from pelagos.pipeline.tracking.spool import BATCH, Spool


def sent(spool: Spool) -> list[float]:
    """The steps of all records that are sent now."""
    return [record["step"] for batch in spool.batches() for record in batch]


def test_records_are_sent_in_order_in_batches(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for step in range(BATCH + 3):
        spool.append({"step": step, "loss": 0.5})
    assert [len(batch) for batch in spool.batches()] == [BATCH, 3]
    assert sent(spool) == []
    assert len(spool.file.read_text().splitlines()) == BATCH + 3


def test_a_batch_counts_as_sent_when_the_next_is_asked_for(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    assert not spool.waiting
    spool.append({"step": 1, "loss": 0.5})
    next(spool.batches())  # the server fails
    assert sent(spool) == [1]


def test_the_next_process_sends_what_is_left(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append({"step": 1, "loss": 0.5})
    assert sent(spool) == [1]
    spool.append({"step": 2, "loss": 0.4})
    assert sent(Spool(tmp_path)) == [2]


def test_a_repeated_step_is_sent_once_but_new_keys_of_it_are_sent(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append({"step": 1, "loss": 0.5})
    assert sent(spool) == [1]
    again = Spool(tmp_path)
    again.append({"step": 1, "loss": 0.5})
    again.append({"step": 1, "valid": 0.6})
    assert [sorted(record) for batch in again.batches() for record in batch] == [["step", "valid"]]


def test_an_unfinished_line_is_cut_off(tmp_path: Path) -> None:
    whole = json.dumps({"step": 1, "loss": 0.5}) + "\n"
    (tmp_path / "metrics.jsonl").write_text(whole + '{"step": 2')
    spool = Spool(tmp_path)
    assert spool.file.read_text() == whole
    spool.append({"step": 3, "loss": 0.3})
    assert sent(spool) == [1, 3]


def test_damaged_lines_are_said_once_and_the_others_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = [f'{{"step": {step}, "loss": 0.5}}\n'.encode() for step in range(4)]
    torn = [b"\0" * 30 + b"\n", b'{"step": "x"}\n', b"[1]\n", b"\xff\xfe\n"]
    (tmp_path / "metrics.jsonl").write_bytes(b"".join([whole[0], torn[0], whole[1], *torn[1:], *whole[2:]]))
    assert sent(Spool(tmp_path)) == [0, 1, 2, 3]
    assert sent(Spool(tmp_path)) == []
    assert capsys.readouterr().err.count("4 damaged line(s) are left out") == 2


@pytest.mark.parametrize("content", ["", "{", "null", "{}", '{"bytes": "x"}', "\0\0"])
def test_a_damaged_mark_sends_everything_again(
    tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spool = Spool(tmp_path)
    spool.append({"step": 1, "loss": 0.5})
    assert sent(spool) == [1]
    (tmp_path / "mlflow_sent.json").write_text(content)
    assert sent(Spool(tmp_path)) == [1]
    assert "mlflow_sent.json is damaged" in capsys.readouterr().err
