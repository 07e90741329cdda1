"""Weight export: a model in the layout of Poseidon or CREDIT, as one file of safetensors, or as a Hugging Face folder.

The inverse of `import_weights`: what published files do not say goes into `facts.yaml` beside them, so that
`pelagos import` makes the same model of them.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

from pelagos.models.networks.compat import as_credit_network, save_crossformer, save_fuxi, save_scot
from pelagos.models.networks.credit.fuxi import FuXiConfig
from pelagos.models.networks.credit.padded_network import PaddedNetwork
from pelagos.models.networks.credit.wxformer import WXFormerConfig
from pelagos.models.networks.scot.scot import ScOT
from pelagos.pipeline.runs import published_folder
from pelagos.pipeline.runs.model_card import CARD, CardFacts, model_card
from pelagos.pipeline.runs.model_checksum import DESCRIPTION, WEIGHTS
from pelagos.pipeline.runs.model_folder import Domain, Model, load
from pelagos.pipeline.runs.remarks import say
from pelagos.pipeline.stages.import_weights import CREDIT_FILES, FACTS, POSEIDON_FILES
from pelagos.pipeline.tracking import model_registry
from pelagos.pipeline.tracking.tracker import TrackingConfig
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.files.durable import sync_tree
from pelagos.preprocessing.variables import Variable, keys, with_role

Layout = Literal["huggingface", "safetensors", "poseidon", "credit"]


def export(reference: str, target: Path, layout: Layout, tracking: TrackingConfig) -> Path:
    """Write a model in the layout of others; returns where.

    Args:
        reference: a folder, or `models:/NAME@ALIAS`.
        target: the folder to write; the file, of `safetensors`.
        layout: `huggingface`, whose folder `pelagos.load` and `pelagos models pull` read; `safetensors`, one file of
            weights with the description in its header; `poseidon` and `credit`, for the code of these.
        tracking: where the registry is.

    Raises:
        ConfigError: the target exists, or the other code has no such network.
        MissingFileError: there is no such model.
        DamagedFileError: a file of it is not as it was written.
    """
    source = model_registry.resolve(reference, tracking)
    if layout == "huggingface":
        published_folder.publish(source, target, card_of(reference, source, tracking))
    elif layout == "safetensors":
        _write_safetensors(source, target)
    else:
        model = load(source)
        with _new_folder(target) as folder:
            (_write_poseidon if layout == "poseidon" else _write_credit)(model, folder)
            _write_facts(model, folder)
    return target


def layout_of(name: str) -> Layout:
    """The layout of this name.

    Raises:
        ConfigError: there is none.
    """
    for layout in get_args(Layout):
        if layout == name:
            return layout  # type: ignore[no-any-return]  # get_args has no types
    raise ConfigError(f"--to must be one of {', '.join(get_args(Layout))}, not {name!r}")


def card_of(reference: str, folder: Path, tracking: TrackingConfig) -> str:
    """The card of a model: of a registered one, that of its version."""
    if model_registry.is_registered(reference):
        card = model_registry.fetch(reference, tracking) / CARD
        if card.is_file():
            return card.read_text(encoding="utf-8")
        return model_card(folder, CardFacts(model_registry.version(reference, tracking).name))
    return model_card(folder, CardFacts(folder.resolve().parent.name))


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A folder that takes its name once it is complete."""
    published_folder.require_new(folder)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        sync_tree(partial)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_safetensors(source: Path, target: Path) -> None:
    if target.exists():
        raise ConfigError(f"{target} exists: give another file, or delete it")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    description = (source / DESCRIPTION).read_text(encoding="utf-8")
    load(source)
    save_file(load_file(source / WEIGHTS), partial, {"format": "pt", "pelagos": description})
    partial.rename(target)


def _write_poseidon(model: Model, folder: Path) -> None:
    network = model.network
    if not isinstance(network, ScOT):
        raise ConfigError(f"Poseidon's code has networks of kind scot, not {model.config.kind}")
    network.foreign = _imported_arguments(model)
    arguments, state = save_scot(network)
    config = {"architectures": ["ScOT"], "model_type": "swinv2", **arguments}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    # transformers reads no file without this entry.
    save_file(_contiguous(state), folder / POSEIDON_FILES[0], {"format": "pt"})


def _write_credit(model: Model, folder: Path) -> None:
    config, network = model.config, model.network
    if not isinstance(config, WXFormerConfig | FuXiConfig) or not isinstance(network, PaddedNetwork):
        raise ConfigError(f"CREDIT's code has networks of kind wxformer and fuxi, not {model.config.kind}")
    shape = model.signature.shape
    if shape is None:
        raise ConfigError("CREDIT's networks have a fixed grid, and this model records none")
    now = _now(model)
    counts = (
        len(with_role(now, "prognostic")),
        len(with_role(now, "static", "forcing")),
        len(with_role(now, "diagnostic")),
    )
    wrapped = as_credit_network(network, config, shape, counts, _imported_arguments(model))
    save = save_fuxi if isinstance(config, FuXiConfig) else save_crossformer
    arguments, state = save(wrapped)
    kind = "fuxi" if isinstance(config, FuXiConfig) else _crossformer_type(config)
    text = yaml.safe_dump(json.loads(json.dumps({"model": {"type": kind, **arguments}})), sort_keys=False)
    (folder / "model.yml").write_text(text, encoding="utf-8")
    # CREDIT reads only torch's own files, which are pickles: its users make theirs of this one, docs/registry.md.
    save_file(_contiguous(state), folder / CREDIT_FILES[0], {"format": "pt"})


def _crossformer_type(config: WXFormerConfig) -> str:
    return "wxformer" if config.decoder == "pixel_shuffle" else "crossformer"


def _contiguous(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: weight.detach().cpu().contiguous() for name, weight in state.items()}


def _imported_arguments(model: Model) -> dict[str, Any]:
    """The reference's arguments as they were imported; fine-tuning may have given the network other channels."""
    if "finetuned" in model.history or "pretrained" in model.history:
        return {}
    return dict(model.history.get("imported", {}).get("arguments", {}))


def _now(model: Model) -> list[Variable]:
    """The variables at the initial time and those that are only forecast, in the order of the network's channels."""
    domain = _one_domain(model)
    known = {variable.key: variable for variable in (*domain.inputs, *domain.outputs)}
    diagnostic = [key for key in model.signature.outputs if key not in keys(domain.inputs)]
    # Channels of earlier frames have other names.
    ordered = [key for key in model.signature.inputs if key in known]
    missing = [key for key in model.signature.outputs if key not in known]
    if missing or len(ordered) * domain.frames != len(model.signature.inputs):
        raise ConfigError(
            "published folders describe networks whose channels are all of one dataset; this one has"
            f" {', '.join(model.signature.inputs)}, and {', '.join(known)} of them in {next(iter(model.domains))}"
        )
    return [known[key] for key in (*ordered, *diagnostic)]


def _one_domain(model: Model) -> Domain:
    """The domain with the most variables, which the others must share."""
    if not model.domains:
        raise ConfigError("the model knows no dataset, so what its channels are cannot be said")
    return max(model.domains.values(), key=lambda domain: len(domain.inputs) + len(domain.outputs))


def _write_facts(model: Model, folder: Path) -> None:
    """What `pelagos import` needs beside the published files."""
    domain, variables = _one_domain(model), _now(model)
    sharing = {
        name: other.time_scale for name, other in model.domains.items() if other.scales == domain.scales
    }
    if left := sorted(set(model.domains) - set(sharing)):
        say(f"note: {FACTS} leaves out {', '.join(left)}, which have other scales")
    if domain.held:
        say(
            f"WARNING: forecasts of this model hold {', '.join(domain.held)} constant, which {FACTS} cannot say: what"
            " is imported from this folder forecasts them with weights that no loss has trained"
        )
    channels = [
        {**variable.model_dump(mode="json", exclude_none=True), **domain.scales[variable.key].model_dump()}
        for variable in variables
    ]
    text = yaml.safe_dump({"time_scales": sharing, "channels": channels}, sort_keys=False, allow_unicode=True)
    (folder / FACTS).write_text(text, encoding="utf-8")
