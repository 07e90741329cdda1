from pathlib import Path

import numpy as np
import pytest
from analytic_source import EVERYTHING, Analytic, analytic_fields


def test_fields_are_read_as_they_are(tmp_path: Path) -> None:
    block = analytic_fields(tmp_path).read(slice(1, 4), slice(2, 5))
    assert np.array_equal(block[:, :, 1], Analytic().values("velocity_y")[1:4, 2:5])


def test_reading_in_small_pieces_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = analytic_fields(tmp_path).read(*EVERYTHING)
    monkeypatch.setattr("pelagos.preprocessing.fields.field_reader._PIECE", 1)
    for pieces in (10**6, 20, 6):
        monkeypatch.setattr("pelagos.preprocessing.fields.field_reader._PIECES", pieces)
        assert np.array_equal(analytic_fields(tmp_path).read(*EVERYTHING), whole)
