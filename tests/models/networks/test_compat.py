"""The one door: arguments and weights as the reference has them, in; its outputs, in its layout, out.

Reference outputs in float32 differ from those in float64 by up to 5e-4 (scOT) and 5e-6 (miles-credit).
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.testing import assert_close

from pelagos.models.networks.compat import (
    load_crossformer,
    load_fuxi,
    load_scot,
    load_sfno,
    save_crossformer,
    save_fuxi,
    save_scot,
    save_sfno,
)

DOORS = {
    "scot/a": (load_scot, save_scot),
    "scot/b": (load_scot, save_scot),
    "scot/c": (load_scot, save_scot),
    "scot/d": (load_scot, save_scot),
    "credit/a": (load_crossformer, save_crossformer),
    "credit/c": (load_crossformer, save_crossformer),
    "credit/d": (load_fuxi, save_fuxi),
    "spectral_refiner": (load_sfno, save_sfno),
}
BARS = {"scot": (1e-10, 2e-3), "credit": (1e-9, 2e-5), "spectral_refiner": (1e-12, 1e-5)}


class Reference:
    """One folder of reference files: arguments, weights, the arguments of a call, and its output."""

    def __init__(self, root: Path, name: str) -> None:
        folder, self.family = root / name, name.partition("/")[0]
        key, prefix = {
            "scot": ("scot_kwargs", ""),
            "credit": ("model", ""),
            "spectral_refiner": ("config", "sfno_tiny_"),
        }[self.family]
        self.arguments = json.loads((folder / f"{prefix}config.json").read_text())[key]
        self.state = load_file(folder / f"{prefix}weights.safetensors")
        files = {k: torch.from_numpy(v) for k, v in np.load(folder / f"{prefix}io.npz").items()}
        if self.family == "scot":
            self.call = [files["pixel_values"], files.get("time")]
            self.output = files["output_table64"]
        else:
            x, y = ("x", "y") if self.family == "credit" else ("x_16_t10", "y_16_t10_out10")
            self.call, self.output = [files[x]], files[y]

    def inputs(self, dtype: torch.dtype) -> list[Tensor | None]:
        return [None if value is None else value.to(dtype) for value in self.call]


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest, shared: Path) -> tuple[Reference, Any, Any]:
    """The reference files with the functions that load and save them."""
    return Reference(shared / "fixtures", request.param), *DOORS[request.param]


def test_outputs_are_the_references_in_either_precision(door: tuple[Reference, Any, Any]) -> None:
    reference, load, _ = door
    net = load(reference.arguments, reference.state)
    assert not net.training
    for dtype, bar in zip((torch.float64, torch.float32), BARS[reference.family], strict=True):
        net.to(dtype)
        with torch.no_grad():
            output = net(*reference.inputs(dtype))
        assert output.dtype == dtype
        assert_close(output.double(), reference.output.double(), rtol=0, atol=bar)


def test_weights_given_in_float64_stay_so(door: tuple[Reference, Any, Any]) -> None:
    reference, load, _ = door
    state = {k: v.double() if v.is_floating_point() else v for k, v in reference.state.items()}
    with torch.no_grad():
        output = load(reference.arguments, state)(*reference.inputs(torch.float64))
    assert_close(output, reference.output.double(), rtol=0, atol=BARS[reference.family][0])


def test_what_is_saved_is_what_was_loaded(door: tuple[Reference, Any, Any]) -> None:
    reference, load, save = door
    arguments, state = save(load(reference.arguments, reference.state))
    assert arguments == reference.arguments
    assert json.loads(json.dumps(arguments)) == reference.arguments
    # Half precision is raised to single, which is exact; integers stay integers.
    expected = {k: v.float() if v.is_floating_point() else v for k, v in reference.state.items()}
    assert_close(state, expected, rtol=0, atol=0)


def test_tuples_are_as_good_as_lists(door: tuple[Reference, Any, Any]) -> None:
    reference, load, _ = door
    tuples = {k: tuple(v) if isinstance(v, list) else v for k, v in reference.arguments.items()}
    with torch.no_grad():
        outputs = [
            load(arguments, reference.state)(*reference.inputs(torch.float32))
            for arguments in (tuples, reference.arguments)
        ]
    assert_close(outputs[0], outputs[1], rtol=0, atol=0)
