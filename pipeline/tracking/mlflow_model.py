"""MLflow model: the files that make a version a model of MLflow, without any pickle.

Beside the model lie its description (`MLmodel`), the program that serves it with Pelagos's own code, the packages that
this needs, pinned, an example of the input, and the card.
"""

import json
import platform
import shutil
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import pelagos
from pelagos.pipeline.runs.model_card import CARD
from pelagos.pipeline.runs.model_folder import Domain, Model
from pelagos.pipeline.tracking.external_code import carry_module
from pelagos.pipeline.tracking.version_files import MODEL_PART
from pelagos.preprocessing.files.durable import write_bytes
from pelagos.preprocessing.safety.trust import class_paths

INFERENCE = (
    "cftime", "einops", "fsspec", "google-crc32c", "h5netcdf", "h5py", "mlflow", "numpy", "pandas", "pydantic",
    "PyYAML", "safetensors", "scipy", "timm", "torch", "torchvision", "xarray", "zarr",
)  # fmt: skip
"""The packages that forecasts need, of those that Pelagos does: no DeepSpeed, Dask or Numba."""
CODE = ("evaluation", "models", "pipeline", "preprocessing")
PROGRAM = "served.py"
_PROGRAM = '''"""What MLflow runs to serve this model: Pelagos's code beside it."""

from mlflow.models import set_model

from pelagos.pipeline.forecasting.served_model import ServedModel

set_model(ServedModel({trusted}))
'''
_EXAMPLE = "input_example.json"
_SERVED_EXAMPLE = "serving_input_example.json"


def write_wrapping(folder: Path, model: Model, card: str) -> None:
    """Write what stands beside a model in its version into an empty folder."""
    write_bytes(folder / CARD, card.encode())
    own_classes = class_paths(model.config.model_dump(mode="json"))
    write_bytes(folder / PROGRAM, _PROGRAM.format(trusted=own_classes or "").encode())
    _copy_code(folder / "code" / "pelagos")
    requirements = [f"{name}=={version(name)}" for name in INFERENCE]
    for path in own_classes:
        more = carry_module(path, folder / "code")
        requirements += [one for one in more if one.partition("==")[0] not in INFERENCE]
    write_bytes(folder / "requirements.txt", ("\n".join(requirements) + "\n").encode())
    environment = {
        "name": "mlflow-env",
        "channels": ["conda-forge"],
        "dependencies": [f"python={platform.python_version()}", "pip", {"pip": requirements}],
    }
    _write_yaml(folder / "conda.yaml", environment)
    python = {
        "python": platform.python_version(),
        "build_dependencies": ["pip", "setuptools", "wheel"],
        "dependencies": ["-r requirements.txt"],
    }
    _write_yaml(folder / "python_env.yaml", python)
    with warnings.catch_warnings():
        # MLflow warns of its own type hints when it is imported.
        warnings.simplefilter("ignore")
        _describe(model, _write_example(folder, model)).save(folder / "MLmodel")


def _copy_code(folder: Path) -> None:
    """Pelagos's own code, so that a version makes the forecasts that it made when it was registered."""
    root = Path(pelagos.__file__).resolve().parent
    folder.mkdir(parents=True)
    shutil.copyfile(root / "__init__.py", folder / "__init__.py")
    for part in CODE:
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc", "*.so")
        shutil.copytree((root / part).resolve(), folder / part, ignore=ignored)


def _write_yaml(file: Path, values: dict[str, Any]) -> None:
    write_bytes(file, yaml.safe_dump(values, sort_keys=False).encode())


def _write_example(folder: Path, model: Model) -> dict[str, Any] | None:
    """An input that the model takes: its means, which are nothing of anybody's data. None where it takes no arrays."""
    domain = _served_domain(model)
    if domain is None or domain.grid is None or domain.ages:
        return None  # an array holds a single frame
    shape = (1, len(domain.inputs), domain.grid.y.points, domain.grid.x.points)
    means = np.array([domain.scales[variable.key].mean for variable in domain.inputs], np.float32)
    values = np.broadcast_to(means[None, :, None, None], shape).tolist()
    params: dict[str, Any] = {"steps": 1, "dataset": next(iter(model.domains))}
    if domain.scalars:
        params["scalars"] = [1.0] * len(domain.scalars)
    served = {"inputs": values, "params": params}
    write_bytes(folder / _EXAMPLE, json.dumps(values).encode())
    write_bytes(folder / _SERVED_EXAMPLE, json.dumps(served).encode())
    return {
        "artifact_path": _EXAMPLE,
        "serving_input_path": _SERVED_EXAMPLE,
        "type": "ndarray",
        "format": "tf-serving",
    }


def _describe(model: Model, example: dict[str, Any] | None) -> Any:
    """The description of the model for MLflow."""
    from mlflow.models import Model as MlflowModel
    from mlflow.pyfunc import add_to_model

    described = MlflowModel(signature=_signature(model), saved_input_example_info=example)
    add_to_model(
        described,
        loader_module="mlflow.pyfunc.model",
        code="code",
        conda_env="conda.yaml",
        python_env="python_env.yaml",
        model_code_path=PROGRAM,
        artifacts={"model": {"path": MODEL_PART, "uri": MODEL_PART}},
    )
    return described


def _signature(model: Model) -> Any:
    """What goes in and comes out as arrays; an `xr.Dataset` is taken as well."""
    from mlflow.models import ModelSignature
    from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec

    domain = _served_domain(model)
    grid = (-1, -1) if domain is None or domain.grid is None else (domain.grid.y.points, domain.grid.x.points)
    channels = (-1, -1) if domain is None else (len(domain.inputs), len(domain.outputs))
    single = np.dtype(np.float32)
    signature = ModelSignature(
        inputs=Schema([TensorSpec(single, (-1, channels[0], *grid))]),
        outputs=Schema([TensorSpec(single, (-1, -1, channels[1], *grid))]),
        params=ParamSchema(
            [
                ParamSpec("steps", "long", 1),
                ParamSpec("dataset", "string", ""),
                ParamSpec("step", "double", 0.0),
                ParamSpec("scalars", "double", [], shape=(-1,)),
            ]
        ),
    )
    # MLflow then leaves checks of the input to the model: its own know no xr.Dataset, and refuse it.
    signature._is_signature_from_type_hint = True
    return signature


def _served_domain(model: Model) -> Domain | None:
    """The dataset whose arrays are served by default; None where the model knows none."""
    return next(iter(model.domains.values()), None)
