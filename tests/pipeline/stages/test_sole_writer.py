"""What a command writes has one writer at a time: a second start is told who it is, and leaves everything alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pelagos.pipeline.engine import distributed
from pelagos.pipeline.stages import evaluate, forecast, pretrain, refine, register
from pelagos.preprocessing.files.durable import LockedError, sole_writer

COMMON: dict[str, Any] = {"store": "store.zarr"}
STAGES: dict[str, tuple[Callable[[Any], Any], Any, dict[str, Any]]] = {
    "pretrain": (
        pretrain.run,
        pretrain.PretrainStage,
        {"network": {"kind": "unet"}, "data": [{"path": "store.zarr"}], "loop": {"steps": 4}},
    ),
    "evaluate": (evaluate.run, evaluate.EvaluateStage, {**COMMON, "models": {"net": "model"}}),
    "forecast": (forecast.run, forecast.ForecastStage, {**COMMON, "model": "model"}),
    "refine": (refine.run, refine.RefineStage, {**COMMON, "model": "model", "equation": {"kind": "wave"}}),
    "register": (register.run, register.RegisterStage, {"model": "model", "name": "ocean"}),
}


@pytest.mark.parametrize("name", STAGES)
def test_a_second_start_is_told_of_the_first_and_touches_nothing(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "start", lambda: None)  # this process trains alone
    run, config, values = STAGES[name]
    output = tmp_path / "output"
    with sole_writer(output), pytest.raises(LockedError, match=r"\.output\.lock: another process holds .*\("):
        run(config.model_validate({**values, "output": output}))
    assert [file.name for file in tmp_path.iterdir()] == [".output.lock"]
