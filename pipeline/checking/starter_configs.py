"""Starter configurations: to pretrain, fine-tune and evaluate on a store, with the reason for each choice."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import gcd
from typing import Any

import numpy as np
import yaml

from pelagos.evaluation.forecast_plan import is_steady
from pelagos.pipeline.runs.model_folder import Model
from pelagos.preprocessing.array_types import Flags
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.store.store import Store
from pelagos.preprocessing.variables import keys, with_role

_LONGEST_LEAD = 8
"""Frames: the all-to-all pairs of Poseidon's kind reach so far, where trajectories do."""
_LONGEST_ROLLOUT = 20  # steps
_FEW_TRAJECTORIES = 4
"""Fewer are scored from several starts each: a score of two forecasts says little."""
_EPOCHS = 20
_FEW, _MOST = 200, 20_000  # steps of a first run
_SMALL = 5_000
"""With fewer samples a large network learns them by heart."""
_BATCH_BYTES = 64 << 20  # of a micro-batch's inputs and targets, which activations exceed some fifty times


@dataclass(frozen=True)
class Choice:
    """One entry of a configuration, and why it is what it is."""

    key: str
    value: Any
    why: str = ""


def pretrain_choices(store: Store, name: str) -> list[Choice]:
    """A first pretraining on a store.

    Raises:
        DataError: no frame of the store trains, or nothing is predicted.
    """
    return [
        Choice("command", "pretrain"),
        Choice("output", f"runs/{name}/pretrain"),
        _network(store),
        _data(store, listed=True),
        *_length(store, rate=1e-3),
    ]


def finetune_choices(store: Store, name: str, model: str, known: Model) -> list[Choice]:
    """A first adaptation of a model to a store."""
    fresh = [
        key for key in _channels(store) if key not in {*known.signature.inputs, *known.signature.outputs}
    ]
    new = f"new to it: {', '.join(fresh)}, whose weights start afresh" if fresh else "it knows all variables"
    return [
        Choice("command", "finetune"),
        Choice("output", f"runs/{name}/finetune"),
        Choice("model", model, f"a {known.config.kind} that knows {', '.join(known.domains)}; {new}"),
        _data(store, listed=False),
        *_length(store, rate=3e-4),
    ]


def evaluate_choices(store: Store, name: str, models: dict[str, str]) -> list[Choice]:
    """A first evaluation on what the store holds out."""
    split = next((one for one in ("test", "valid", "train") if store.splits[one].any()), "")
    if not split:
        raise DataError(f"{store.path}: no frame is in any split")
    why = "of all trajectories of the test split"
    if split != "test":
        why = f"the store has no test split, so that scores on {split} flatter the model: build one with"
        why += " splits: {test: ...}"
    if is_steady(store):
        starts: dict[str, Any] = {"split": split}
        baselines = ["climatology"]
        why += "; a steady problem has one step"
    else:
        frames = store.splits[split]
        reach, baselines = _reach(frames), ["persistence"]
        if int(frames.any(axis=1).sum()) < _FEW_TRAJECTORIES and reach > 1:
            steps = min(reach // 2, _LONGEST_ROLLOUT)
            starts = {"split": split, "every": 1, "steps": steps}
            why += f"; {steps} steps of one frame, from every one of its {reach + 1} frames that leaves room"
        else:
            steps = min(reach, _LONGEST_ROLLOUT)
            starts = {"split": split, "steps": steps}
            why += f"; {steps} steps of one frame from the first, of {reach + 1} frames"
    return [
        Choice("command", "evaluate"),
        Choice("title", f"Forecasts of {store.dataset}"),
        Choice("models", models),
        Choice("store", str(store.path)),
        # Apart from the first one, which may hold scores of the pretrained model already.
        Choice("output", f"runs/{name}/{'evaluation' if len(models) == 1 else 'comparison'}"),
        Choice("starts", starts, why),
        Choice("baselines", baselines),
    ]


def configuration_text(choices: Sequence[Choice], head: Sequence[str]) -> str:
    """The choices in YAML, the reasons in comments above them."""
    return "\n".join([*_comment("; ".join(head)), *(line for one in choices for line in _lines(one))]) + "\n"


def about(store: Store) -> list[str]:
    """What is to be known of a store to judge a configuration of it."""
    height, width = store.grid.shape
    roles = [
        f"{role}: {', '.join(keys(found))}"
        for role in ("prognostic", "static", "forcing", "diagnostic")
        if (found := with_role((*store.variables, *store.static_variables), role))
    ]
    scalars = [f"scalars: {', '.join(store.params)}"] if store.params else []
    number = store.num_trajectories
    size = f"{number} {'trajectory' if number == 1 else 'trajectories'} of {store.num_times} frames,"
    size += f" {height} x {width} points"
    return [f"{store.dataset}: {size}", *roles, *scalars]


def _network(store: Store) -> Choice:
    patch, window = _patch(store.grid.shape), 0
    tokens = [-(-side // patch) for side in store.grid.shape]
    longest = [side for side in tokens if side > 1] or [1]
    # The coarsest level keeps two tokens a side, so that windows there still mix neighbours.
    levels = next((n for n in (4, 3, 2) if min(longest) >= 2**n), 1)
    window = next((n for n in range(16, 3, -1) if all(side % n == 0 for side in longest)), 8)
    small = _samples(store) < _SMALL
    width, depth, heads = (32, 2, 2) if small else (48, 4, 3)
    why = (
        f"patches of {patch} points make {tokens[0]} x {tokens[1]} tokens, windows of {window} divide them;"
        f" {levels} level(s), the coarsest of {' x '.join(str(-(-side // 2 ** (levels - 1))) for side in tokens)};"
        f" {'small, for' if small else 'the size of Poseidon-T, for'} {_samples(store)} samples"
    )
    if any(side % window for side in longest):
        why = why.replace(f"windows of {window} divide them", f"windows of {window} are cut at the edges")
    value = {
        "kind": "scot",
        "embed_dim": width,
        "depths": [depth] * levels,
        "num_heads": [heads * 2**n for n in range(levels)],
        "skip_connections": [1] * (levels - 1) + [0],
        "window_size": window,
        "patch_size": patch,
    }
    return Choice("network", value, why)


def _patch(shape: tuple[int, int]) -> int:
    """The side of a patch that divides the grid and leaves at least eight tokens along it, where one does."""
    sides = [side for side in shape if side > 1] or [1]
    common = gcd(*sides)
    return next((p for p in (4, 2) if common % p == 0 and min(sides) >= 8 * p), 1)


def _data(store: Store, *, listed: bool) -> Choice:
    data: dict[str, Any] = {"path": str(store.path)}
    why = "a steady problem: each solution belongs to its static fields"
    if not is_steady(store):
        lead = _lead(store)
        data |= {"sampling": {"kind": "pairs", "max_lead": lead}}
        why = f"each frame with each of the {lead} that follow, of {_reach(store.splits['train']) + 1} that train"
        if listed:
            # A fine-tuned model's lead times keep the meaning that they had.
            data |= {"time_scale": float(f"{lead * store.dt:.6g}")}
            why += "; lead time 1 is the longest of them"
    return Choice("data", [data] if listed else data, why)


def _length(store: Store, rate: float) -> Iterator[Choice]:
    samples = _samples(store)
    batch = 2 ** int(np.log2(min(16, samples)))
    frame = 4 * len(_channels(store)) * store.grid.shape[0] * store.grid.shape[1]
    micro = 2 ** int(np.log2(max(1, min(8, batch, _BATCH_BYTES // (2 * frame)))))
    steps = int(np.clip(round(_EPOCHS * samples / batch, -2), _FEW, _MOST))
    loop: dict[str, Any] = {"steps": steps, "batch_size": batch, "micro_batch": micro}
    why = f"{steps * batch / samples:.1f} epochs of {samples} samples; a micro-batch of {micro}"
    why += f" holds {2 * frame * micro / 1e6:.3g} MB of fields"
    if store.splits["valid"].any():
        loop |= {"validate_every": steps // 10}
        why += "; validated ten times"
    else:
        why += "; never validated, since the store has no valid split"
    yield Choice("loop", {**loop, "checkpoint_every": steps // 10}, why)
    yield Choice("optimizer", {"lr": rate})
    yield Choice("schedule", {"warmup": steps // 20}, "a twentieth of the steps, then a cosine")


def _samples(store: Store) -> int:
    train = store.splits["train"]
    if not train.any():
        raise DataError(f"{store.path}: no frame trains; build it with splits that leave some")
    if not [*with_role(store.variables, "prognostic"), *with_role(store.variables, "diagnostic")]:
        raise DataError(f"{store.path}: no variable is predicted: all are static or forcing")
    if is_steady(store):
        return int(train.sum())
    lead = _lead(store)
    return sum(min(lead, run - 1 - n) for row in train for run in _runs(row) for n in range(run))


def _lead(store: Store) -> int:
    reach = _reach(store.splits["train"])
    if not reach:
        raise DataError(f"{store.path}: no two frames that train follow each other")
    return min(_LONGEST_LEAD, reach)


def _reach(frames: Flags) -> int:
    """From the first to the last frame of the longest run of frames that all of a split's trajectories have."""
    rows = frames[frames.any(axis=1)]
    return min(max(_runs(row)) for row in rows) - 1


def _runs(row: Flags) -> list[int]:
    return [len(list(run)) for inside, run in groupby(row.tolist()) if inside]


def _channels(store: Store) -> tuple[str, ...]:
    return keys((*store.variables, *store.static_variables))


def _lines(choice: Choice) -> Iterator[str]:
    yield from _comment(choice.why) if choice.why else ()
    if isinstance(choice.value, dict | list):
        values = choice.value.values() if isinstance(choice.value, dict) else choice.value
        nested = any(isinstance(one, dict | list) for one in values)
        yield _yaml({choice.key: choice.value}) if nested else f"{choice.key}: {_yaml(choice.value)}"
    else:
        yield f"{choice.key}: {_yaml(choice.value)}"


def _yaml(value: Any) -> str:
    # Innermost lists and mappings on one line, as people write them.
    text = yaml.safe_dump(value, default_flow_style=None, sort_keys=False, allow_unicode=True, width=110)
    return text.removesuffix("\n").removesuffix("\n...")


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, 108, initial_indent="# ", subsequent_indent="# ")
