"""Finished batches are kept, damaged ones are not taken for finished, and all of them give the whole."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pelagos.evaluation.forecast_plan import StartsConfig
from pelagos.evaluation.streaming.batch_archive import BatchArchive
from pelagos.evaluation.streaming.evaluator import Evaluator
from pelagos.evaluation.verification import make_evaluator
from pelagos.preprocessing.store.store import Store

SIZE = 2


@pytest.fixture(scope="module")
def work(store: Store) -> Evaluator:
    plan = StartsConfig(every=1, steps=3).plan(store)
    return make_evaluator(store, plan, store.variables, {}, ["persistence", "stencil"], size=SIZE)


@pytest.fixture
def archive(work: Evaluator, tmp_path: Path) -> BatchArchive:
    return BatchArchive(tmp_path / "batches", work.plan, work.plan.forecasts.batches(SIZE), "digest")


def test_batches_written_in_any_order_give_the_whole(work: Evaluator, archive: BatchArchive) -> None:
    for batch in archive.batches[::-1]:
        assert not archive.is_finished(batch)
        archive.write(batch, work.score(batch))
        assert archive.is_finished(batch)
    for name, expected in work.score_all(SIZE).items():
        for array, values in archive.merged(name).arrays.items():
            np.testing.assert_array_equal(values, expected.arrays[array])


def test_the_bytes_of_a_batch_are_the_same_each_time(work: Evaluator, archive: BatchArchive) -> None:
    written = []
    for _ in range(2):
        archive.write(archive.batches[0], work.score(archive.batches[0]))
        written.append({file.name: file.read_bytes() for file in archive.path.iterdir()})
    assert written[0] == written[1]


def test_a_damaged_batch_or_one_of_another_evaluation_is_not_finished(
    work: Evaluator, archive: BatchArchive
) -> None:
    batch = archive.batches[1]
    archive.write(batch, work.score(batch))
    assert not replace(archive, digest="other").is_finished(batch)
    file = next(archive.path.glob("*.safetensors"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert not archive.is_finished(batch)
    archive.write(batch, work.score(batch))
    record = archive.path / "00001.json"
    record.write_bytes(record.read_bytes()[:10])
    assert not archive.is_finished(batch)
    archive.clear()
    assert not archive.path.exists()
