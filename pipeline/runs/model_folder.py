"""Model folder: a network with what it takes to use it on data: variables, scales, unit of lead time."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, PositiveInt, TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import pelagos
from pelagos.models.adapt import with_waves
from pelagos.models.constraints.constrained_dataset import ConstrainedDataset
from pelagos.models.constraints.constrained_step import ConstrainedStep, Constraint
from pelagos.models.context import Context, Signature, Sphere
from pelagos.models.layers.conditioning import noise_names
from pelagos.models.networks.network import NetworkConfig
from pelagos.pipeline.runs.model_checksum import DESCRIPTION, WEIGHTS, check_without_list, require_files
from pelagos.pipeline.runs.trained_grid import TrainedGrid
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import DamagedFileError, DataError
from pelagos.preprocessing.files.durable import PARTIAL, give_usual_mode, sha256, sync_tree, write_bytes
from pelagos.preprocessing.layout import Layout, input_channels
from pelagos.preprocessing.safety.credentials import redacted_tree
from pelagos.preprocessing.safety.trust import require_trust
from pelagos.preprocessing.samples.normalize import Normalizer
from pelagos.preprocessing.store import checksum_list
from pelagos.preprocessing.store.checksum_list import CHECKSUM_LIST
from pelagos.preprocessing.variables import Variable, is_vector_component, keys

MODEL_FORMAT = 1
DerivedScalar = Literal["spacing_y", "spacing_x", "duration"]
"""Scalars that a batch implies: grid spacings in the grid's units, and the lead time in the store's unit of time."""
_NETWORK: TypeAdapter[NetworkConfig] = TypeAdapter(NetworkConfig)
_CONSTRAINTS: TypeAdapter[tuple[Constraint, ...]] = TypeAdapter(tuple[Constraint, ...])


class VariableScale(Config):
    """Mean and standard deviation of a variable, in its units."""

    mean: float
    std: float


class Domain(Config):
    """What a model knows about a dataset that it was trained on.

    Attributes:
        inputs: variables of the input channels: prognostic, then static, then forcing.
        outputs: variables of the output channels: prognostic, then diagnostic.
        scales: mean and deviation by variable key.
        scalars: names of the scalars of each sample.
        time_scale: duration of lead time 1, in the store's unit of time.
        max_lead: the longest lead time that the network was asked for in training, in the store's unit of time; 0
            where it is not known, as the two that follow.
        min_lead: the shortest.
        horizon: the longest from an initial frame to a target; longer than `max_lead` where it was trained on rollouts.
        time_units: the store's unit of time; None in folders that earlier versions wrote.
        level_units: the unit of levels, empty where there are none.
        grid: what the store's grid was; None in folders that earlier versions wrote.
        held: keys of outputs that were constant and that the loss left out: forecasts hold them at their mean.
        frames: the number of input frames, one step of a forecast apart, the last at the initial time; only imported
            networks have more than one.
        history: how long before the initial frame the other frames that are input lie, the latest first [frames of the
            training's store].
        frame_time: from one of these frames to the next, in the store's unit of time; 0 where there is no history.
        sees_valid_forcing: whether the network sees forcings at the time that it forecasts as well.
        augmentation: the transformations of the samples of training, in words.
    """

    inputs: tuple[Variable, ...]
    outputs: tuple[Variable, ...]
    scales: dict[str, VariableScale]
    scalars: tuple[str, ...] = ()
    time_scale: float = 1.0
    max_lead: float = 0.0
    min_lead: float = 0.0
    horizon: float = 0.0
    time_units: str | None = None
    level_units: str = ""
    grid: TrainedGrid | None = None
    held: tuple[str, ...] = ()
    frames: int = Field(default=1, gt=0)
    history: tuple[PositiveInt, ...] = ()
    frame_time: float = Field(default=0.0, ge=0)
    sees_valid_forcing: bool = False
    augmentation: tuple[str, ...] = ()

    @property
    def ages(self) -> tuple[int, ...]:
        """How long before the initial frame the other frames lie: in frames of training, or steps where `frames` is."""
        return self.history or tuple(range(1, self.frames))

    @property
    def channels(self) -> tuple[Variable, ...]:
        """What the network is given: whole frames, then forcings at the valid time."""
        return input_channels(self.inputs, self.ages, sees_valid_forcing=self.sees_valid_forcing)

    def normalizer(self, variables: Iterable[Variable]) -> Normalizer:
        """The normaliser of some of the variables."""
        names = keys(variables)
        scales = [self.scales[name] for name in names]
        mean, std = (np.array([getattr(scale, part) for scale in scales]) for part in ("mean", "std"))
        return Normalizer(names, mean, std)


@dataclass(frozen=True)
class Model:
    """A network in eval mode, and the domains that it serves.

    On disk it is a folder with `model.json`, `weights.safetensors` and the checksums of both in `SHA256SUMS`.

    Attributes:
        config: the configuration that the network was built from.
        network: the network.
        signature: the variables, scalars and grid that it was built for.
        domains: what it knows about each dataset, by name.
        history: the configurations of the stages that made it.
        constraints: what each of its forecast steps is made to obey.
    """

    config: NetworkConfig
    network: nn.Module
    signature: Signature
    domains: dict[str, Domain]
    history: dict[str, Any] = field(default_factory=dict)
    constraints: tuple[Constraint, ...] = ()

    def domain(self, dataset: str) -> Domain:
        """What the model knows about a dataset.

        Raises:
            DataError: it was not trained on that dataset.
        """
        return domain_of_dataset(self.domains, dataset)

    def save(self, folder: Path) -> None:
        """Write the model to a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = folder / WEIGHTS
        state = {
            name: tensor.detach().cpu().contiguous() for name, tensor in self.network.state_dict().items()
        }
        partial = folder / f".{weights.name}{PARTIAL}"
        try:
            save_file(state, partial)
            give_usual_mode(partial)
            partial.replace(weights)
        finally:
            partial.unlink(missing_ok=True)  # of a failed save, on a disk that may be full
        digests = {WEIGHTS: sha256(weights)}
        description = {
            "format": MODEL_FORMAT,
            "pelagos": pelagos.__version__,
            "network": self.config.model_dump(mode="json"),
            "signature": asdict(self.signature),
            "domains": {name: domain.model_dump(mode="json") for name, domain in self.domains.items()},
            # Also of models from before credentials in configurations were refused.
            "history": redacted_tree(self.history),
            "sha256": digests,
            "checksums": CHECKSUM_LIST,
        }
        # Absent where there are none: such a folder is as earlier versions wrote it, to the byte.
        if self.constraints:
            description["constraints"] = _CONSTRAINTS.dump_python(self.constraints, mode="json")
        content = (json.dumps(description, indent=1) + "\n").encode()
        digests = {**digests, DESCRIPTION: hashlib.sha256(content).hexdigest()}
        checksum_list.write_list(folder, checksum_list.checksum_text(digests))
        sync_tree(folder)
        # The description comes last and is renamed into place: without it the folder is no model.
        write_bytes(folder / DESCRIPTION, content)


def exists(folder: Path) -> bool:
    """Whether a folder holds a model, whatever its state."""
    return all((folder / name).is_file() for name in (DESCRIPTION, WEIGHTS))


def load(folder: Path) -> Model:
    """The model in a folder, its network in eval mode on the CPU.

    Raises:
        MissingFileError: there is no model in the folder.
        DamagedFileError: a file fails its checksum.
        DataError: the model was written by a newer Pelagos.
        UntrustedCodeError: its network is a class that the user has not named.
    """
    file, weights = folder / DESCRIPTION, folder / WEIGHTS
    require_files(folder)
    listed = checksum_list.verify_list(folder)
    values = _description(file)
    # Written before folders had a list of checksums: model.json holds those of the weights.
    if listed is None:
        check_without_list(folder, values)
    # Before anything of the description is built: a network may be a class by name.
    require_trust(values["network"], file)
    config = _network_config(values["network"])
    signature = signature_from(values["signature"])
    try:
        network = config.build(signature)
        network.load_state_dict(with_waves(load_file(weights), network))
    except (SafetensorError, RuntimeError, MemoryError) as error:
        # torch says by a RuntimeError that shapes differ, or that memory ends.
        raise DamagedFileError(
            f"{weights} does not hold the weights that {file} describes: {error}"
        ) from error
    constraints = _CONSTRAINTS.validate_python(values.get("constraints", ()))
    return Model(config, network.eval(), signature, _domains(values), values["history"], constraints)


def _network_config(values: Any) -> NetworkConfig:
    # Before the MLPs of an FNO's layers had a width of their own, it was that of its lifting.
    if isinstance(values, dict) and values.get("kind") == "fno" and "expansion" in values:
        values = {"mlp_expansion": values["expansion"], **values}
    return _NETWORK.validate_python(values)


def described(folder: Path) -> tuple[Signature, dict[str, Domain]]:
    """The signature and the domains of the model in a folder, without its weights.

    Raises:
        MissingFileError: there is no model in the folder.
        DamagedFileError: its description is damaged.
        DataError: the model was written by a newer Pelagos.
    """
    file = folder / DESCRIPTION
    require_files(folder, DESCRIPTION)
    values = _description(file)
    return signature_from(values["signature"]), _domains(values)


def _domains(values: dict[str, Any]) -> dict[str, Domain]:
    return {name: Domain.model_validate(domain) for name, domain in values["domains"].items()}


def domain_of_dataset(domains: Mapping[str, Domain], dataset: str) -> Domain:
    """What a model with these domains knows about a dataset; raises as `Model.domain`."""
    if dataset not in domains:
        raise DataError(
            f"the model knows the datasets {', '.join(domains)}, not {dataset!r}; fine-tune it on it first"
        )
    return domains[dataset]


def constrained_step(constraints: Sequence[Constraint], domain: Domain, layout: Layout) -> ConstrainedStep:
    """The constraints on forecast steps of a dataset, whose samples have this layout.

    Raises:
        ConfigError: a constraint needs a field, a unit or a grid that the dataset lacks.
    """
    units = domain.time_units or "", domain.level_units
    return ConstrainedStep(constraints, ConstrainedDataset(layout, domain.scales, *units))


def _description(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    # RecursionError: JSON that nests without end, as a stranger's file may.
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{file} is not JSON: {error}") from error
    wanted = ("format", "network", "signature", "domains", "history", "sha256")
    if absent := [key for key in wanted if not isinstance(values, dict) or key not in values]:
        raise DamagedFileError(f"{file} does not describe a model: {', '.join(absent)} missing")
    # Older formats are read as they are; a newer one may mean something else by the same keys.
    if values["format"] > MODEL_FORMAT:
        raise DataError(
            f"{file} has format {values['format']}; this Pelagos reads up to {MODEL_FORMAT}: upgrade it"
        )
    return dict(values)


def signature_from(values: dict[str, Any]) -> Signature:
    """The signature with these JSON values."""
    shape = values["shape"]
    return Signature(
        inputs=tuple(values["inputs"]),
        outputs=tuple(values["outputs"]),
        scalars=tuple(values["scalars"]),
        shape=(shape[0], shape[1]) if shape else None,
    )


def signature_of(layouts: Iterable[Layout], conditions: tuple[str, ...] = ()) -> Signature:
    """The union of variables and scalars of several datasets, in order of appearance, with conditions added."""
    return union(
        *(
            Signature(keys(layout.channels), keys(layout.outputs), layout.scalars, layout.grid.shape)
            for layout in layouts
        ),
        Signature((), (), conditions),
    )


def union(*signatures: Signature) -> Signature:
    """All variables and scalars in order of appearance, with the shape of the first signature."""

    def merged(parts: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(chain.from_iterable(parts)))

    return Signature(
        inputs=merged(s.inputs for s in signatures),
        outputs=merged(s.outputs for s in signatures),
        scalars=merged(s.scalars for s in signatures),
        shape=signatures[0].shape,
    )


def context_of(
    signature: Signature, layout: Layout, scalars_BS: Tensor | None, lead_time_B: Tensor
) -> Context:
    """What a network of this signature is told about a batch of this layout.

    Scalars of the signature that the dataset lacks are NaN, unless they are a `DerivedScalar`.

    Raises:
        DataError: the network has no weights for one of the variables.
    """
    given, wanted = keys(layout.channels), keys(layout.outputs)
    for kind, names, known in (("input", given, signature.inputs), ("output", wanted, signature.outputs)):
        unknown = [name for name in names if name not in known]
        if unknown:
            raise DataError(
                f"dataset {layout.dataset}: the network has no {kind} weights for {', '.join(unknown)};"
                f" it knows {', '.join(known)}"
            )
    return Context(
        inputs=tuple(signature.inputs.index(name) for name in given),
        outputs=tuple(signature.outputs.index(name) for name in wanted),
        residual=tuple(given.index(name) if name in given else -1 for name in wanted),
        periodic=layout.grid.periodic,
        scalars=_scalars(signature, layout, scalars_BS, lead_time_B),
        sphere=_sphere(layout),
    )


def _sphere(layout: Layout) -> Sphere | None:
    """Where the points of a grid of latitudes and longitudes are."""
    grid = layout.grid
    if grid.kind != "latlon":
        return None
    signs = tuple(-1 if is_vector_component(one) else 1 for one in layout.channels)
    return Sphere(tuple(grid.y.tolist()), tuple(grid.x.tolist()), signs, grid.whole_sphere)


def _scalars(
    signature: Signature, layout: Layout, scalars_BS: Tensor | None, lead_time_B: Tensor
) -> Tensor | None:
    if not signature.scalars:
        return None
    # Rows from north to south have a negative spacing; networks are told distances.
    spacing_y, spacing_x = (abs(step) for step in layout.grid.spacing)
    known: dict[str, float | Tensor] = {
        "spacing_y": spacing_y,
        "spacing_x": spacing_x,
        "duration": lead_time_B * layout.time_scale,
        # The middle of what noise can be, where nobody draws it.
        **dict.fromkeys(noise_names(len(signature.scalars)), 0.0),
    }
    if scalars_BS is not None:
        known |= dict(zip(layout.scalars, scalars_BS.unbind(1), strict=True))
    # Missing scalars stay NaN, which networks tell from zero.
    values_BS = lead_time_B.new_full((len(lead_time_B), len(signature.scalars)), torch.nan)
    for column, name in enumerate(signature.scalars):
        values_BS[:, column] = known.get(name, torch.nan)
    return values_BS.float()
