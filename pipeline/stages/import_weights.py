"""Weight import: a folder as Poseidon or CREDIT publish theirs becomes the folder of a Pelagos model.

The files hold weights and sizes, but not which variables the channels are, how those were normalised, or how long lead
time 1 is. Guesses would give plausible, wrong forecasts, so `ChannelFacts` has to be given.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError  # noqa: TID251  # nothing is unpickled: what torch raises for that
from typing import Any, NamedTuple, Self

import torch
from pydantic import Field, PositiveFloat, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pelagos.models.constraints.constrained_step import Constraint, check_order
from pelagos.models.context import Signature
from pelagos.models.networks.compat import load_crossformer, load_fuxi, load_scot
from pelagos.models.networks.network import NetworkConfig
from pelagos.models.networks.scot.compat import scot_arguments
from pelagos.pipeline.runs import configuration
from pelagos.pipeline.runs.model_folder import Domain, Model, VariableScale
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError, DamagedFileError, DataError, MissingFileError
from pelagos.preprocessing.files.durable import sha256
from pelagos.preprocessing.variables import Variable, earlier, keys, known_variable, with_role

POSEIDON_FILES = ("model.safetensors", "pytorch_model.bin")
CREDIT_FILES = ("model_state_dict.safetensors", "checkpoint.pt", "model_checkpoint.pt")
FACTS = "facts.yaml"
"""What is taken for the facts where a published folder holds it, as those do that `pelagos models export` writes."""
EXAMPLE = """\
time_scales: {NAME: 1.0}   # of each dataset: how long lead time 1 is, in the units of its store's times
channels:                  # in the order of the network's channels
  - {name: velocity_x, role: prognostic, mean: 0.0, std: 0.391}
  - {name: mask, role: static, mean: 0.0, std: 1.0}"""


class PublishedChannel(Variable):
    """A variable with the mean and standard deviation, in its units, that the network was trained with."""

    mean: float
    std: PositiveFloat

    def variable(self) -> Variable:
        """The variable without its scale; what is not given comes from the table of known names."""
        said = self.model_dump(include=self.model_fields_set - {"mean", "std"})
        return Variable(**{**known_variable(self.name).model_dump(), **said})


class ChannelFacts(Config):
    """What published files do not say.

    Attributes:
        time_scales: the duration of lead time 1 for each dataset that the model is to serve, in its store's unit of
            time.
        channels: the network's channels in order; all but diagnostic ones are inputs, prognostic and diagnostic ones
            are outputs.
        constraints: what each forecast step is made to obey, such as budgets that the weights were used with.
    """

    time_scales: dict[str, PositiveFloat] = Field(min_length=1)
    channels: tuple[PublishedChannel, ...] = Field(min_length=1)
    constraints: tuple[Constraint, ...] = ()

    @model_validator(mode="after")
    def _constraints_in_order(self) -> Self:
        check_order(self.constraints)
        return self

    def signature(self, shape: tuple[int, int], num_frames: int) -> Signature:
        """What the network is built for; the frames of a variable are neighbouring channels, the oldest first."""
        variables = [channel.variable() for channel in self.channels]
        inputs = [
            earlier(variable, age)
            for variable in with_role(variables, "prognostic", "static", "forcing")
            for age in reversed(range(num_frames))
        ]
        return Signature(keys(inputs), keys(with_role(variables, "prognostic", "diagnostic")), shape=shape)

    def domain(self, time_scale: float, num_frames: int) -> Domain:
        """What the model knows about one of the datasets."""
        variables = [channel.variable() for channel in self.channels]
        prognostic = with_role(variables, "prognostic")
        return Domain(
            inputs=(*prognostic, *with_role(variables, "static"), *with_role(variables, "forcing")),
            outputs=(*prognostic, *with_role(variables, "diagnostic")),
            scales={
                channel.key: VariableScale(mean=channel.mean, std=channel.std) for channel in self.channels
            },
            time_scale=time_scale,
            frames=num_frames,
        )


class PublishedNetwork(NamedTuple):
    """A published network, from `num_inputs` channels in `num_frames` frames to `num_outputs` on a grid of `shape`."""

    reference: str
    arguments: dict[str, Any]
    weights: Path
    config: NetworkConfig
    network: nn.Module
    num_inputs: int
    num_outputs: int
    shape: tuple[int, int]
    num_frames: int


def convert(source: Path, folder: Path, facts: Path | None) -> Path:
    """Make the model folder of a published network.

    Args:
        source: `config.json` beside `model.safetensors` or `pytorch_model.bin`, as Poseidon is published; or a
            YAML file with a section `model` beside `checkpoint.pt`, as CREDIT is, or the same weights in
            `model_state_dict.safetensors`.
        folder: the folder to write.
        facts: a YAML file of `ChannelFacts`; by default `facts.yaml` of the folder.

    Raises:
        MissingFileError: a file is missing.
        DamagedFileError: the weights cannot be read.
        ConfigError: the folder is not empty, facts are missing or in error, or the network is not supported.
        DataError: the files contradict each other, or the facts.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} exists: give another FOLDER, or delete it")
    published = read_published(source)
    if facts is None and (source / FACTS).is_file():
        facts = source / FACTS
    if facts is None:
        raise ConfigError(
            f"{source} holds a network of {published.num_inputs} input and {published.num_outputs} output "
            "channels, but not which variables they are, how they were normalised, and how long lead time 1 "
            f"is: say so with --facts FILE, a YAML file such as\n{EXAMPLE}"
        )
    said = configuration.load(facts, [], ChannelFacts)
    model = _model(published, said, facts)
    model.save(folder)
    return folder


def read_published(source: Path) -> PublishedNetwork:
    """The network in a published folder; raises as `convert` does."""
    if not source.is_dir():
        raise MissingFileError(f"no folder {source}")
    if (source / "config.json").is_file():
        return _poseidon(source)
    texts = sorted({*source.glob("*.yml"), *source.glob("*.yaml")} - {source / FACTS})
    if len(texts) == 1:
        return _credit(source, texts[0])
    raise MissingFileError(
        f"{source} holds no published model: it has neither config.json, as Poseidon's folders have, nor one "
        f"YAML file, as CREDIT's have (found {', '.join(path.name for path in texts) or 'none'})"
    )


def _poseidon(source: Path) -> PublishedNetwork:
    file, weights = source / "config.json", _one_of(source, POSEIDON_FILES)
    try:
        arguments = scot_arguments(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, AttributeError) as error:
        raise DataError(f"{file} is not a JSON object: {error}") from error
    net = load_scot(arguments, read_tensors(weights))
    counts = len(net.signature.inputs), len(net.signature.outputs)
    size = net.image_size
    assert size is not None
    return PublishedNetwork("Poseidon", arguments, weights, net.config, net, *counts, (size, size), 1)


def _credit(source: Path, file: Path) -> PublishedNetwork:
    arguments = configuration.read_yaml(file).get("model")
    if not isinstance(arguments, dict) or "type" not in arguments:
        raise DataError(f"{file} has no section `model` with a `type`, as CREDIT's configurations have")
    weights = _one_of(source, CREDIT_FILES)
    load = load_fuxi if arguments["type"] == "fuxi" else load_crossformer
    net = load(arguments, read_tensors(weights))
    frames, output_frames = net.num_frames
    if output_frames != 1:
        raise ConfigError(
            f"{file}: the network makes {output_frames} frames at once; forecasts of Pelagos make one a step. "
            "In Python pelagos.models.networks.compat serves it"
        )
    signature = net.network.signature
    counts = len(signature.inputs) // frames, len(signature.outputs)
    return PublishedNetwork("CREDIT", arguments, weights, net.config, net.network, *counts, net.shape, frames)


def _one_of(source: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if (source / name).is_file():
            return source / name
    raise MissingFileError(f"{source} holds no weights: there is neither {' nor '.join(names)}")


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The state dict in a file of safetensors or of torch, bare or as `model_state_dict`; no code in it is run.

    Raises:
        DamagedFileError: it cannot be read.
        DataError: it holds something else.
    """
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        values = torch.load(file, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, SafetensorError) as error:
        raise DamagedFileError(
            f"{file} cannot be read as weights alone; what else a pickle holds is never run: {error}"
        ) from error
    state = values.get("model_state_dict", values) if isinstance(values, Mapping) else None
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(f"{file} holds no state dict, neither bare nor as `model_state_dict`")
    return dict(state)


def _model(published: PublishedNetwork, facts: ChannelFacts, file: Path) -> Model:
    now = facts.signature(published.shape, 1)
    for kind, names, count in (
        ("input", now.inputs, published.num_inputs),
        ("output", now.outputs, published.num_outputs),
    ):
        if len(names) != count:
            raise DataError(
                f"{file}: the channels are {len(names)} {kind}s ({', '.join(names)}), the network has {count}"
            )
        if len(set(names)) < len(names):
            raise DataError(
                f"{file}: two channels are the same variable at the same level: {', '.join(names)}"
            )
    signature = facts.signature(published.shape, published.num_frames)
    with torch.device("meta"):
        network = published.config.build(signature)
    network.load_state_dict(published.network.state_dict(), assign=True)
    origin = {
        "reference": published.reference,
        "arguments": published.arguments,
        "sha256": {published.weights.name: sha256(published.weights)},
    }
    domains = {name: facts.domain(scale, published.num_frames) for name, scale in facts.time_scales.items()}
    network, history = network.float().eval(), {"imported": origin}
    return Model(published.config, network, signature, domains, history, facts.constraints)
