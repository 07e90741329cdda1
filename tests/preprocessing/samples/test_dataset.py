from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from analytic_source import Analytic, configuration

from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.samples.dataset import Dataset, DatasetConfig
from pelagos.preprocessing.samples.sample_index import PairSampling
from pelagos.preprocessing.samples.window_sampling import RolloutSampling, WindowSampling
from pelagos.preprocessing.store.store import open_store
from pelagos.preprocessing.variables import keys

RICH = {"names": ["heating", "density", "velocity_x", "velocity_y"], "static": "varying", "scalars": True}


def make(tmp_path: Path, source: dict[str, Any] | None = None, **options: Any) -> Dataset:
    build_options = {key: options.pop(key) for key in ("codec", "missing", "splits") if key in options}
    path = build(configuration(tmp_path, RICH if source is None else source, **build_options))
    return DatasetConfig(path=path, **options).open()


@pytest.mark.parametrize("codec", ["none", "blosc-lz4"])
def test_samples_are_the_normalised_fields(tmp_path: Path, codec: str) -> None:
    dataset = make(tmp_path, codec=codec, time_scale=0.5)
    layout = dataset.layout
    assert keys(layout.inputs) == ("velocity_x", "velocity_y", "depth", "heating")
    assert keys(layout.outputs) == ("velocity_x", "velocity_y", "density")
    assert (layout.scalars, layout.time_scale) == (("viscosity",), 0.5)
    samples = np.array([5, 0, 39, 17])
    batch = dataset.batch(samples)
    assert dataset.num_samples == 4 * 10
    source = Analytic(**RICH)
    for n, (i, a, b) in enumerate(batch.index.tolist()):
        state = {name: source.values(name) for name in source.names}
        inputs = [
            state["velocity_x"][i, a],
            state["velocity_y"][i, a],
            source.values("depth")[i, 0],
            state["heating"][i, a],
        ]
        targets = [state[name][i, b] for name in keys(layout.outputs)]
        expected = dataset.input_normalizer.normalize(np.stack(inputs))
        assert batch.inputs[n].numpy() == pytest.approx(expected, rel=1e-6, abs=1e-6)
        expected = dataset.output_normalizer.normalize(np.stack(targets))
        assert batch.targets[n].numpy() == pytest.approx(expected, rel=1e-6, abs=1e-6)
        assert batch.lead_time[n] == (b - a) * 0.25 / 0.5
        assert batch.scalars[n].tolist() == [i // 2 + 0.5]
    assert batch.mask.all()
    assert len(batch) == 4


def test_lead_times_count_frames_by_default(tmp_path: Path) -> None:
    batch = make(tmp_path, {}).batch(np.arange(40))
    assert batch.lead_time.tolist() == (batch.index[:, 2] - batch.index[:, 1]).tolist()


def test_splits_do_not_share_trajectories(tmp_path: Path) -> None:
    path = make(tmp_path, {}).config.path
    found = {}
    for split in ("train", "valid", "test"):
        dataset = DatasetConfig(path=path, split=split).open()
        found[split] = set(dataset.index(np.arange(dataset.num_samples))[:, 0].tolist())
    assert found == {"train": {0, 1, 2, 3}, "valid": {4}, "test": {5}}


def test_a_steady_problem_is_one_sample_a_trajectory(tmp_path: Path) -> None:
    source = {"times": 1, "names": ["density"], "static": "varying"}
    dataset = make(tmp_path, source)
    assert dataset.num_samples == 4
    assert keys(dataset.layout.inputs) == ("depth",)
    assert keys(dataset.layout.outputs) == ("density",)
    batch = dataset.batch(np.arange(4))
    assert batch.lead_time.tolist() == [1] * 4
    assert batch.index.tolist() == [[i, 0, 0] for i in range(4)]
    depth = Analytic(**source).values("depth")[:4, 0]
    expected = dataset.input_normalizer.normalize(depth[:, None])
    assert batch.inputs.numpy() == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_missing_values_are_zero_and_masked(tmp_path: Path) -> None:
    dataset = make(tmp_path, {"sea": 2, "missing": (1, 3)}, missing="keep")
    batch = dataset.batch(np.arange(dataset.num_samples))
    assert batch.inputs.isfinite().all()
    assert (batch.inputs[..., :2] == 0).all()
    assert not batch.mask[..., :2].any()
    assert batch.mask[..., 2:].all()
    assert (batch.targets[~batch.mask] == 0).all()
    assert (batch.targets[..., 2:] != 0).any()


def test_a_rollout_has_the_fields_and_forcings_of_every_step(tmp_path: Path) -> None:
    rollouts = make(tmp_path, sampling=RolloutSampling(steps=3))
    pairs = DatasetConfig(path=rollouts.config.path, sampling=PairSampling(max_lead=1)).open()
    one_step = {tuple(row[:2]): n for n, row in enumerate(pairs.index(np.arange(pairs.num_samples)).tolist())}
    batch = rollouts.batch(np.arange(rollouts.num_samples))
    num_forcing = 1
    for n, (i, a, b) in enumerate(batch.index.tolist()):
        assert b == a + 3
        steps = pairs.batch(np.array([one_step[i, a + k] for k in range(3)]))
        assert torch.equal(batch.inputs[n], steps.inputs[0])
        assert torch.equal(batch.targets[n], steps.targets)
        assert torch.equal(batch.forcings[n], steps.inputs[1:, -num_forcing:])
    assert torch.equal(batch.lead_time, torch.ones(len(batch)))


@pytest.mark.parametrize("codec", ["none", "blosc-lz4"])
@pytest.mark.parametrize("kind", ["pairs", "windows", "rollouts"])
def test_samples_hold_earlier_frames_and_forcings_at_valid_times(
    tmp_path: Path, codec: str, kind: str
) -> None:
    sampling = {
        "pairs": PairSampling(max_lead=2),
        "windows": WindowSampling(steps=2),
        "rollouts": RolloutSampling(steps=2),
    }
    seen = make(tmp_path, codec=codec, sampling=sampling[kind], history=(1, 2), valid_forcing=True)
    plain = DatasetConfig(path=seen.config.path, sampling=PairSampling(identity=True)).open()
    at = {
        (i, a): n for n, (i, a, b) in enumerate(plain.index(np.arange(plain.num_samples)).tolist()) if a == b
    }
    batch = seen.batch(np.arange(seen.num_samples))
    width = len(seen.layout.inputs)
    assert keys(seen.layout.channels)[width : width + 2] == ("velocity_x[-1]", "velocity_y[-1]")
    assert keys(seen.layout.channels)[-1] == "heating[valid]"
    assert batch.index[:, 1].min() == 2
    for n, (i, a, b) in enumerate(batch.index.tolist()):
        frames = plain.batch(np.array([at[i, a - age] for age in (0, 1, 2)]))
        assert torch.equal(batch.inputs[n], frames.inputs.flatten(0, 1))
        valid = [b] if kind == "pairs" else [a + 1, a + 2]
        later = plain.batch(np.array([at[i, frame] for frame in valid]))
        assert torch.equal(batch.forcings[n], later.inputs[:, -1:])
        assert torch.equal(batch.targets[n].reshape(later.targets.shape), later.targets)
    which = seen.frames_of(np.arange(seen.num_samples))
    buffers = seen.shapes.buffers(seen.num_samples)
    seen.read(which, buffers, scaled=False)
    assert torch.equal(seen.wrap_unscaled(which, buffers).to("cpu").inputs, batch.inputs)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"history": (1, 3), "sampling": RolloutSampling(steps=2)}, r"frames as far apart, \[1, 2\]"),
        ({"history": (7,), "sampling": PairSampling()}, "history from 7 frames before"),
        ({"valid_forcing": True}, "no forcing for valid_forcing"),
    ],
)
def test_what_no_sample_can_show_is_refused(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make(tmp_path, {}, **options)


def test_a_split_shorter_than_a_rollout_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"split train: no samples.*steps=99"):
        make(tmp_path, {}, sampling=RolloutSampling(steps=99))


def test_a_limit_spreads_samples_evenly_and_always_alike(tmp_path: Path) -> None:
    full = make(tmp_path, {})
    few = DatasetConfig(path=full.config.path, limit=7).open()
    assert few.num_samples == 7
    chosen = few.index(np.arange(7)).tolist()
    positions = [full.index(np.arange(40)).tolist().index(pair) for pair in chosen]
    assert {b - a for a, b in pairwise(positions)} <= {5, 6}
    assert chosen == DatasetConfig(path=full.config.path, limit=7).open().index(np.arange(7)).tolist()
    assert DatasetConfig(path=full.config.path, limit=70).open().num_samples == 40


def test_a_sample_can_be_described(tmp_path: Path) -> None:
    dataset = make(tmp_path, {})
    described = "dataset analytic, trajectory 1, frames 0->2, times 0->0.5 s"
    assert dataset.describe_frames(*dataset.index(np.array([11]))[0].tolist()) == described


def test_a_split_without_pairs_names_the_store(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"analytic-1\.zarr, split test: no samples"):
        make(tmp_path, {}, split="test", splits={"kind": "trajectories", "valid": 1})
    with pytest.raises(ConfigError, match="no variables to predict from"):
        make(tmp_path / "b", {"names": ["density"]})


def windows(tmp_path: Path, kind: str, source: dict[str, Any] | None = None, **sampling: Any) -> Dataset:
    options = {"kind": kind, "steps": 2, **sampling}
    return make(tmp_path, source, time_scale=0.5, sampling=options)


@pytest.mark.parametrize("kind", ["windows", "rollouts"])
def test_a_window_holds_the_frames_that_pairs_with_its_first_one_have(tmp_path: Path, kind: str) -> None:
    dataset = windows(tmp_path, kind, lead=2)
    pairs = DatasetConfig(path=dataset.config.path).open()
    assert dataset.num_samples == 4
    batch = dataset.batch(np.arange(4))
    assert batch.kind == kind
    assert batch.index.tolist() == [[i, 0, 4] for i in range(4)]
    for n in range(4):
        for k, last in enumerate((2, 4)):
            [sample] = np.flatnonzero((pairs.index(np.arange(40)) == (n, 0, last)).all(axis=1))
            pair = pairs.batch(np.array([sample]))
            assert np.array_equal(batch.inputs[n], pair.inputs[0])
            assert np.array_equal(batch.targets[n, k], pair.targets[0])
            assert np.array_equal(batch.scalars[n], pair.scalars[0])
    lead = 2 * 0.25 / 0.5
    assert batch.lead_time.tolist() == ([[lead, 2 * lead]] if kind == "windows" else [lead]) * 4


def test_windows_begin_where_they_are_told_to(tmp_path: Path) -> None:
    assert windows(tmp_path, "windows", {}, lead=1).num_samples == 4 * 3
    path = windows(tmp_path, "windows", {}).config.path
    for options, starts in (
        ({"every": 2}, [0, 2]),
        ({"start": 1}, [1, 2]),
        ({"stop": 4}, [0, 1]),
        ({"min_start": 1, "max_start": 1}, [1]),
    ):
        dataset = DatasetConfig(path=path, sampling={"kind": "windows", "steps": 2, **options}).open()
        found = dataset.index(np.arange(dataset.num_samples))
        assert found[found[:, 0] == 0, 1].tolist() == starts
        assert (found[:, 2] - found[:, 1] == 2).all()
    with pytest.raises(ConfigError, match="no samples"):
        DatasetConfig(path=path, sampling={"kind": "windows", "steps": 5}).open()


def test_fewer_targets_are_the_first_ones_of_the_same_samples(tmp_path: Path) -> None:
    dataset = windows(tmp_path, "rollouts", steps=3)
    samples = np.array([3, 0])
    whole, short = dataset.batch(samples), dataset.batch(samples, steps=2)
    assert np.array_equal(short.targets, whole.targets[:, :2])
    assert np.array_equal(short.inputs, whole.inputs)
    assert np.array_equal(short.forcings, whole.forcings[:, :1])
    assert (short.index[:, 2] - short.index[:, 1]).tolist() == [2, 2]


def test_missing_values_of_windows_are_zero_and_masked(tmp_path: Path) -> None:
    dataset = make(
        tmp_path,
        {"sea": 2, "missing": (1, 3)},
        missing="keep",
        sampling={"kind": "rollouts", "steps": 2, "max_start": 0},
    )
    batch = dataset.batch(np.arange(dataset.num_samples))
    assert not batch.mask[..., :2].any()
    assert batch.mask[..., 2:].all()
    assert (batch.targets[~batch.mask] == 0).all()


def test_lead_times_in_frames_are_independent_of_the_distance_of_frames(tmp_path: Path) -> None:
    path = make(tmp_path, {}).config.path
    batch = DatasetConfig(path=path, time_scale=4, time_unit="frames").open().batch(np.arange(40))
    assert batch.lead_time.tolist() == ((batch.index[:, 2] - batch.index[:, 1]) / 4).tolist()


@pytest.mark.parametrize("options", [{}, {"pool": 3}, {"limit": 7}], ids=str)
def test_samples_in_sixteen_bits_are_those_of_a_store_of_the_rounded_values(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    values = 300 + np.random.default_rng(0).normal(size=(4, 3, 1, 8, 8)).astype("f4")

    def opened(name: str, frames: np.ndarray[Any, Any], **build_options: Any) -> Dataset:
        np.save(tmp_path / f"{name}.npy", frames)
        source = {
            "kind": "apebench",
            "paths": str(tmp_path / f"{name}.npy"),
            "dt": 0.1,
            "length": 1.0,
            "dataset": name,
        }
        config = {"dataset": name, "source": source, "root": tmp_path, "splits": {"kind": "trajectories"}}
        path = build(BuildConfig.model_validate(config | build_options))
        return DatasetConfig.model_validate({"path": path, "augment": {"auto": False}, **options}).open()

    half = opened("half", values, dtype="float16")
    half_store = open_store(half.config.path)
    rounded = np.stack([half_store.read(i, 0, 3) for i in range(4)])
    single = opened("single", rounded.swapaxes(-2, -1))  # rows are columns in such archives
    assert not np.array_equal(rounded, values)
    samples = np.arange(half.num_samples)
    expected, found = single.batch(samples), half.batch(samples)
    raw = half.shapes.buffers(len(samples), half.loaded_type(scaled=False))
    half.read(frames := half.frames_of(samples), raw, scaled=False)
    assert half.wrap_unscaled(frames, raw).inputs.dtype == torch.float16
    for batch in (found, half.wrap_unscaled(frames, raw).to("cpu")):
        assert torch.equal(batch.inputs, expected.inputs)
        assert torch.equal(batch.targets, expected.targets)
