"""Of samples that several processes share, each reads its own rows, and gets what one process would have there."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from analytic_source import configuration

from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.loading.loader import Loader
from pelagos.preprocessing.samples.dataset import Dataset, DatasetConfig
from pelagos.preprocessing.samples.mixture import Sweep

SOURCE = {
    "names": ["heating", "density", "velocity_x", "velocity_y"],
    "static": "varying",
    "sea": 3,
    "size": 8,
}
AUGMENT = {"reflect": True, "kinds": {"depth": "scalar", "heating": "scalar"}}
PARTS = ("inputs", "targets", "mask", "forcings", "lead_time", "scalars", "index")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(str(build(configuration(tmp_path_factory.mktemp("rows"), SOURCE, missing="keep"))))


def opened(store: Path, rows: range | None, **values: Any) -> Dataset:
    dataset = DatasetConfig.model_validate({"path": store, **values}).open()
    if rows is not None:
        dataset.share(rows)
    return dataset


@pytest.mark.parametrize("kind", ["pairs", "windows", "rollouts"])
@pytest.mark.parametrize("more", [{}, {"pool": 2}, {"augment": AUGMENT}], ids=str)
def test_batches_are_rows_of_whole_ones(store: Path, kind: str, more: dict[str, Any]) -> None:
    sampling = {"kind": kind} if kind == "pairs" else {"kind": kind, "steps": 2}
    whole = opened(store, None, sampling=sampling, **more)
    numbers, key = np.arange(min(4, whole.num_samples)), (0, 4, 1)
    expected = whole.batch(numbers, key=key)
    for rows in (range(3), range(3, 8)):
        found = opened(store, rows, sampling=sampling, **more).batch(numbers, key=key)
        for part in PARTS:
            mine, theirs = getattr(found, part), getattr(expected, part)
            if part in ("inputs", "targets", "mask", "forcings"):
                theirs = theirs[..., rows.start : rows.stop, :]
            assert torch.equal(mine, theirs), part


@pytest.mark.parametrize("processes", [False, True])
def test_a_loader_has_batches_of_rows(store: Path, processes: bool) -> None:
    whole, mine = (Sweep([opened(store, rows)], 2) for rows in (None, range(2, 7)))
    for expected, found in zip(Loader(whole), Loader(mine, threads=1, processes=processes), strict=True):
        assert torch.equal(found.to("cpu").inputs, expected.to("cpu").inputs[..., 2:7, :])


def test_rows_of_a_store_in_sixteen_bits(tmp_path: Path) -> None:
    half = Path(build(configuration(tmp_path, SOURCE, missing="keep", dtype="float16", version="half")))
    whole, mine = (opened(half, rows, augment={"auto": False}) for rows in (None, range(2, 7)))
    expected = whole.batch(numbers := np.arange(4))
    assert torch.equal(mine.batch(numbers).inputs, expected.inputs[..., 2:7, :])
    raw = mine.shapes.buffers(4, mine.loaded_type(scaled=False))
    mine.read(frames := mine.frames_of(numbers), raw, scaled=False)
    batch = mine.wrap_unscaled(frames, raw)
    assert batch.inputs.dtype == torch.float16
    assert torch.equal(batch.to("cpu").targets, expected.targets[..., 2:7, :])
