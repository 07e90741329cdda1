"""What fine-tuning begins with: the model's weights and scales, or fresh ones that do not depend on it."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from pelagos.models.context import Signature
from pelagos.models.networks.credit.fuxi import FuXiConfig
from pelagos.models.networks.credit.wxformer import WXFormerConfig
from pelagos.models.networks.fourier.fno import FNOConfig
from pelagos.models.networks.network import NetworkConfig
from pelagos.models.networks.scot.scot import ScOTConfig
from pelagos.models.networks.unet import UNetConfig
from pelagos.pipeline.checking import check
from pelagos.pipeline.engine import checkpoint
from pelagos.pipeline.runs import closing_lines, run_inputs
from pelagos.pipeline.runs.model_folder import Model, context_of, load, signature_of
from pelagos.pipeline.stages.finetune import FinetuneStage, run
from pelagos.pipeline.tracking import model_registry
from pelagos.pipeline.tracking.tracker import Tracker, TrackingConfig
from pelagos.pipeline.training.training_data import domain_of
from pelagos.preprocessing.errors import ConfigError, DataError, MissingFileError
from pelagos.preprocessing.grid import Sides
from pelagos.preprocessing.samples.dataset import DatasetConfig
from pelagos.preprocessing.samples.normalize import Normalizer
from pelagos.preprocessing.store.store import open_store


@pytest.fixture(scope="module")
def source(waves: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the waves, whose scales are twice those of the store."""
    own = Normalizer.of(open_store(waves))
    dataset = DatasetConfig(path=waves).open(Normalizer(own.keys, own.mean, 2 * own.std))
    config = FNOConfig(width=4, modes=(2, 2), num_layers=1)
    signature = signature_of([dataset.layout])
    folder = tmp_path_factory.mktemp("source") / "model"
    Model(config, config.build(signature), signature, {"waves": domain_of(dataset)}, {"made": "here"}).save(
        folder
    )
    return folder


def stage(waves: Path, source: Path, **values: Any) -> FinetuneStage:
    loop = {"steps": 4, "batch_size": 4, "micro_batch": 2}
    return FinetuneStage.model_validate(
        {
            "output": source.parent / "run",
            "model": str(source),
            "data": {"path": waves},
            "loop": loop,
            **values,
        }
    )


def test_a_known_dataset_goes_on_with_the_models_weights_and_scales(waves: Path, source: Path) -> None:
    config, saved = stage(waves, source), load(source)
    with torch.device("meta"):  # as `pelagos check` counts operations
        model, mixture = config.assemble()
    mixture.close()
    for name, tensor in saved.network.state_dict().items():
        assert torch.equal(model.network.state_dict()[name], tensor)
    assert model.domains["waves"].scales == saved.domains["waves"].scales
    assert set(model.history) == {"made", "finetuned"}


def test_the_stores_own_scales_can_be_asked_for(waves: Path, source: Path) -> None:
    model, mixture = stage(waves, source, scales="store").assemble()
    mixture.close()
    own = Normalizer.of(open_store(waves))
    deviations = dict(zip(own.keys, own.std.tolist(), strict=True))
    assert {k: s.std for k, s in model.domains["waves"].scales.items()} == pytest.approx(deviations)


def test_fresh_weights_depend_on_the_seed_alone(waves: Path, source: Path) -> None:
    torch.manual_seed(3)
    model, mixture = stage(waves, source, scratch=True).assemble()
    mixture.close()
    torch.manual_seed(3)
    wanted = model.config.build(model.signature).state_dict()
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(tensor, wanted[name])
    assert set(model.history) == {"finetuned"}


def test_a_fourier_operator_takes_new_variables_and_keeps_the_others(
    waves: Path, source: Path, tmp_path: Path
) -> None:
    model = load(source)
    narrow = Signature(model.signature.inputs[:2], model.signature.outputs, shape=(8, 8))
    known = model.config.build(narrow)
    Model(model.config, known, narrow, {}).save(tmp_path / "narrow")
    config = stage(waves, tmp_path / "narrow", output=tmp_path / "run")
    config.output.mkdir()
    adapted, mixture = config.assemble()
    mixture.close()
    assert adapted.history["finetuned"]["adapted"]["inputs new, from fresh weights"] == "wave_speed"
    found, wanted = (one.state_dict()["lifting.0.weight"] for one in (adapted.network, known))
    assert torch.equal(found[:, [0, 1, 3, 4]], wanted)


def test_new_variables_are_not_published_as_they_were_drawn(
    waves: Path, source: Path, tmp_path: Path
) -> None:
    model = load(source)
    narrow = Signature(model.signature.inputs[:2], model.signature.outputs, shape=(8, 8))
    Model(model.config, model.config.build(narrow), narrow, {}).save(tmp_path / "narrow")
    config = stage(waves, tmp_path / "narrow", output=tmp_path, optimizer={"parts": {"embedding": "frozen"}})
    with pytest.raises(
        ConfigError, match=r"input wave_speed is new .* lifting\.0\.weight, .* optimizer\.parts freezes"
    ):
        config.assemble()


def test_a_model_that_is_not_there_is_named(waves: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no model folder"):
        stage(waves, tmp_path / "nothing").assemble()


def changed(source: Path, folder: Path, **facts: Any) -> Path:
    """The model with other facts on the waves."""
    model = load(source)
    domain = model.domains["waves"].model_copy(update=facts)
    replace(model, domains={"waves": domain}).save(folder)
    return folder


def test_rows_the_other_way_round_are_refused_unless_weights_are_fresh(
    waves: Path, source: Path, tmp_path: Path
) -> None:
    grid = load(source).domains["waves"].grid
    assert grid is not None
    turned = grid.model_copy(
        update={"y": grid.y.model_copy(update={"first": grid.y.last, "last": grid.y.first})}
    )
    other = changed(source, tmp_path / "turned", grid=turned)
    with pytest.raises(
        DataError, match="has its rows the other way round than the waves that the model was trained"
    ):
        stage(waves, other).assemble()
    stage(waves, other, scratch=True).assemble()[1].close()


def test_another_meaning_of_lead_time_one_is_said(
    waves: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage(waves, source).assemble()[1].close()
    assert capsys.readouterr().err == ""
    other = changed(source, tmp_path / "longer", time_scale=0.04)
    data = {"path": waves, "time_scale": 0.02}
    stage(waves, other, data=data).assemble()[1].close()
    assert "lead time 1 was 0.04 in the model's training and is 0.02" in capsys.readouterr().err
    data = {"path": waves, "time_scale": 0.04}
    stage(waves, other, data=data).assemble()[1].close()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("dataset", ["waves", "others"])
def test_lead_times_mean_what_they_meant_in_training_unless_said(
    waves: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], dataset: str
) -> None:
    other = load(changed(source, tmp_path / "other", time_scale=0.04))
    replace(other, domains={dataset: other.domains["waves"]}).save(tmp_path / "longer")
    model, mixture = stage(waves, tmp_path / "longer").assemble()
    mixture.close()
    assert model.domains["waves"].time_scale == 0.04
    assert "lead time 1 is 0.04, as in the model's training" in capsys.readouterr().err
    # Of two pairs of frames one apart, each is half of it.
    assert mixture.datasets[0].batch(np.array([0])).lead_time.tolist() == pytest.approx([0.5])


def test_where_the_model_learnt_several_meanings_one_is_to_be_chosen(
    waves: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load(source)
    domains = {
        name: model.domains["waves"].model_copy(update={"time_scale": scale})
        for name, scale in (("slow", 75.0), ("fast", 0.3))
    }
    replace(model, domains=domains).save(tmp_path / "both")
    tuned, mixture = stage(waves, tmp_path / "both").assemble()
    mixture.close()
    assert tuned.domains["waves"].time_scale == pytest.approx(0.02)
    assert "lead time 1 was 0.3, 75 on the model's datasets, and is one frame now" in capsys.readouterr().err


WITHOUT_CONDITIONING: dict[str, NetworkConfig] = {
    "scot": ScOTConfig(
        embed_dim=4, depths=(1,), num_heads=(1,), skip_connections=(0,), patch_size=2, use_conditioning=False
    ),
    "fuxi": FuXiConfig(
        form="credit", dim=8, depth=1, num_heads=2, window=2, groups=2, patch=(2, 2), frames=1
    ),
    "wxformer": WXFormerConfig(
        form="credit",
        dims=(8, 8, 8, 8),
        depths=(1, 0, 0, 0),
        head_dim=8,
        local_window=2,
        global_window=2,
        kernels=((2, 4),) * 4,
    ),
}


@pytest.mark.parametrize("kind", WITHOUT_CONDITIONING)
def test_a_network_without_conditioning_ignores_scalars_and_says_which(
    kind: str,
    waves: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = open_store(waves)
    dataset = DatasetConfig(path=waves).open()
    config = WITHOUT_CONDITIONING[kind]
    signature = replace(signature_of([dataset.layout]), scalars=())
    network, domain = config.build(signature), domain_of(dataset).model_copy(update={"scalars": ()})
    Model(config, network, signature, {"waves": domain}).save(tmp_path / "plain")
    damped = replace(store, params=("damping",), scalar_values=np.ones((store.num_trajectories, 1)))
    monkeypatch.setattr(DatasetConfig, "store", lambda config: damped)
    model, mixture = stage(waves, tmp_path / "plain").assemble()
    mixture.close()
    assert model.signature == signature
    assert "no conditioning and ignores damping" in capsys.readouterr().err
    for name, tensor in network.state_dict().items():
        assert torch.equal(model.network.state_dict()[name], tensor)


def transformer(waves: Path, folder: Path) -> Path:
    """A small transformer of the waves."""
    dataset = DatasetConfig(path=waves).open()
    config = ScOTConfig(
        embed_dim=8,
        depths=(1,),
        num_heads=(2,),
        skip_connections=(0,),
        patch_size=2,
        window_size=4,
        position_bias_dim=8,
    )
    signature = signature_of([dataset.layout])
    Model(config, config.build(signature), signature, {"waves": domain_of(dataset)}).save(folder)
    return folder


@pytest.fixture(scope="module")
def transformer_model(waves: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return transformer(waves, tmp_path_factory.mktemp("transformer") / "model")


def test_what_is_copied_new_and_different_is_told_and_kept(waves: Path, tmp_path: Path) -> None:
    known = load(transformer(waves, tmp_path / "source"))
    inputs, outputs = known.signature.inputs, known.signature.outputs
    other = replace(known.signature, inputs=(*inputs[1:], "tracer"))
    grid = known.domains["waves"].grid
    assert grid is not None
    walls = grid.model_copy(
        update={
            "x": grid.x.model_copy(
                update={"periodic": False, "sides": ("wall", "open"), "last": 2 * grid.x.last}
            )
        }
    )
    domain = known.domains["waves"].model_copy(update={"grid": walls, "time_scale": 0.04})
    network = known.config.build(other)
    Model(known.config, network, other, {"waves": domain}).save(tmp_path / "narrow")
    config = stage(
        waves, tmp_path / "narrow", output=tmp_path / "run", data={"path": waves, "time_scale": 0.02}
    )
    config.output.mkdir()
    model, mixture = config.assemble()
    mixture.close()
    facts = model.history["finetuned"]["adapted"]
    assert facts["inputs copied"] == ", ".join(inputs[1:])
    assert facts["inputs new, from fresh weights"] == inputs[0]
    assert facts["inputs known to the model, not in the data"] == "tracer"
    assert facts["outputs copied"] == ", ".join(outputs)
    assert facts["boundary"].endswith("in training periodic along y, wall and open along x")
    assert "8 x 8" in facts["grid"]
    assert "; in training cartesian" in facts["grid"]
    assert facts["lead time 1"] == "0.02; in training 0.04"
    assert facts["scales"].startswith("the model's of ")
    said = config.opening_lines()
    assert said == [f"adapted: {name}: {text}" for name, text in facts.items()]
    found = [one for one in check.findings(config, 1, deep=False) if one.about == "adapted"]
    assert [str(one) for one in found] == said


@pytest.mark.parametrize(
    ("sides", "text"), [(("wall", "wall"), "wall"), (("open", "open"), "open"), (None, "walls or open")]
)
def test_another_boundary_is_told_by_its_name_as_far_as_it_is_known(
    sides: Sides | None, text: str, waves: Path, source: Path, tmp_path: Path
) -> None:
    model = load(source)
    grid = model.domains["waves"].grid
    assert grid is not None
    known = grid.model_copy(update={"y": grid.y.model_copy(update={"periodic": False, "sides": sides})})
    domain = model.domains["waves"].model_copy(update={"grid": known})
    replace(model, domains={"waves": domain}).save(tmp_path / "known")
    tuned, mixture = stage(waves, tmp_path / "known").assemble()
    mixture.close()
    found = tuned.history["finetuned"]["adapted"]["boundary"]
    assert found == f"periodic along y, periodic along x; in training {text} along y, periodic along x"


def test_another_recovery_begins_afresh_and_is_told_and_kept(waves: Path, tmp_path: Path) -> None:
    source = load(transformer(waves, tmp_path / "source"))
    config = stage(
        waves, tmp_path / "source", output=tmp_path / "run", fresh=["recovery"], upsampling="bilinear"
    )
    config.output.mkdir()
    model, mixture = config.assemble()
    mixture.close()
    assert isinstance(model.config, ScOTConfig)
    assert model.config.upsampling == "bilinear"
    before, after = source.network.state_dict(), model.network.state_dict()
    kept = {name for name in after if not name.startswith("patch_recovery.")}
    assert kept == {name for name in before if not name.startswith("patch_recovery.")}
    assert all(torch.equal(after[name], before[name]) for name in kept)
    facts = model.history["finetuned"]["adapted"]
    assert facts["new"] == "recovery (asked for)"
    assert facts["inputs copied"] == ", ".join(source.signature.inputs)
    assert facts["outputs new, from fresh weights"] == ", ".join(source.signature.outputs)
    found = [str(one) for one in check.findings(config, 1, deep=False) if one.about == "adapted"]
    assert found == config.opening_lines()
    assert "adapted: new: recovery (asked for)" in found
    assert "  started afresh: recovery" in list(closing_lines._adapted(config))
    model.save(tmp_path / "model")
    again = load(tmp_path / "model").network.state_dict()
    assert all(torch.equal(again[name], weight) for name, weight in after.items())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fresh": ["recovery"], "scratch": True}, "fresh: with scratch: true all weights are fresh"),
        ({"upsampling": "bilinear"}, r"upsampling: .* add fresh: \[recovery\]"),
        ({"fresh": ["body"], "lora": {}}, "fresh: body would stay as it was drawn: lora"),
        (
            {"fresh": ["norm"], "optimizer": {"parts": {"norm": "frozen"}}},
            "norm would stay .* optimizer.parts",
        ),
        ({"lora": {}, "engine": {"zero_stage": 3}}, "zero_stage: 3 .* frozen weights, and lora freezes"),
        (
            {"optimizer": {"parts": {"norm": "frozen"}}, "engine": {"zero_stage": 3}},
            "zero_stage: 3 .* optimizer.parts freezes norm",
        ),
        (
            {
                "equation_labels": {"equation": {"kind": "wave"}, "states": "mixed"},
                "loop": {"steps": 2, "batch_size": 2, "micro_batch": 2},
            },
            "one sample of a micro-batch of 2 is labelled, and there is nothing to mix",
        ),
    ],
)
def test_fresh_parts_that_would_learn_nothing_or_mean_nothing_are_refused(
    waves: Path, source: Path, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        stage(waves, source, **values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        # Norms among them would learn; the others would be published as they were drawn.
        ({"fresh": ["encoder.*"], "lora": {"rank": 2}}, r"of encoder\.\*, encoder\..* lora freezes it"),
        (
            {"fresh": ["recovery"], "optimizer": {"parts": {"patch_recovery.*": "frozen"}}},
            r"of recovery, patch_recovery\..* optimizer\.parts freezes it",
        ),
        (
            {"fresh": ["norm"], "lora": {"layers": ["*.0.layernorm_before.weight"]}},
            r"of norm, .*\.0\.layernorm_before\.weight\.weight would .* lora freezes it, and 2 of ",
        ),
        (
            {"lora": {}, "optimizer": {"parts": {"body": 1e-3}}},
            r"optimizer\.parts\.body: 0\.001 is for weights that lora freezes",
        ),
    ],
)
def test_what_would_not_learn_by_any_name_is_refused(
    waves: Path, transformer_model: Path, tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        stage(waves, transformer_model, output=tmp_path, **values).assemble()


def test_fresh_weights_and_rates_of_what_learns_are_allowed(
    waves: Path, transformer_model: Path, tmp_path: Path
) -> None:
    rates = {"adapter": 1e-3, "encoder.*": 1e-3, "body": "frozen"}
    values = {"fresh": ["recovery"], "lora": {"rank": 2}, "optimizer": {"parts": rates}}
    model, mixture = stage(waves, transformer_model, output=tmp_path, **values).assemble()
    mixture.close()
    assert all(w.requires_grad for n, w in model.network.named_parameters() if n.startswith("patch_recovery"))


def test_fresh_parts_that_the_network_lacks_are_refused(waves: Path, source: Path) -> None:
    with pytest.raises(ConfigError, match=r"fresh: head: a FNO has no such weights; parts are embedding"):
        stage(waves, source, fresh=["head"]).assemble()
    with pytest.raises(ConfigError, match=r"upsampling: bilinear is for networks of kind scot, .* kind fno"):
        stage(waves, source, fresh=["recovery"], upsampling="bilinear").assemble()


def test_a_dataset_as_in_training_is_told_to_be_the_same(waves: Path, source: Path, tmp_path: Path) -> None:
    config = stage(waves, source, output=tmp_path / "run")
    config.output.mkdir()
    config.assemble()[1].close()
    lines = dict(line.removeprefix("adapted: ").split(": ", 1) for line in config.opening_lines())
    same = {name for name, text in lines.items() if text.endswith(", as in training")}
    assert same == {"grid", "boundary", "lead time 1"}
    assert not any("new" in name or "dropped" in name for name in lines)


def test_adapters_are_trained_resumed_and_merged_into_ordinary_weights(
    waves: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrackingConfig, "build", lambda *_, **__: Tracker())
    source, found = transformer(waves, tmp_path / "source"), []
    for name in ("whole", "resumed"):
        loop = {"steps": 4, "batch_size": 4, "micro_batch": 2, "checkpoint_every": 2, "damaged": "previous"}
        loop["peak_flops"] = 1e12  # not measured
        lora = {"rank": 1, "layers": ["attention"]}
        config = stage(waves, source, lora=lora, loop=loop, output=tmp_path / name, threads=1)
        run(config)
        if name == "resumed":  # as if it had been killed after its second step
            shutil.rmtree(checkpoint.path_of(config.output / "checkpoints", 4))
            (config.output / "done.json").unlink()
            shutil.rmtree(config.output / "model")
            assert checkpoint.path_of(config.output / "checkpoints", 2).is_dir()
            run(config)
        found.append(load(config.output / "model").network.state_dict())
    before, (after, resumed) = load(source).network.state_dict(), found
    assert set(after) == set(before)
    for name, weight in before.items():
        assert torch.equal(after[name], resumed[name])
        change = after[name] - weight
        if ".attention.self." in name and name.endswith(("query.weight", "key.weight", "value.weight")):
            # float32 rounds the sum, so that the difference has a rank of 1 up to that.
            assert int(torch.linalg.matrix_rank(change, atol=1e-6)) == 1
        elif ".intermediate." in name or "continuous_position_bias" in name:
            assert not change.any()
        elif name.startswith("patch_recovery") or "layernorm" in name:
            assert change.any()


def test_states_that_the_equation_labels_are_made_again_after_an_interruption(
    waves: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrackingConfig, "build", lambda *_, **__: Tracker())
    loop = {"batch_size": 4, "micro_batch": 2, "peak_flops": 1e12, "ema": 0}
    values: dict[str, Any] = {"schedule": {"kind": "constant"}, "threads": 1}
    labels = {"equation": {"kind": "wave"}, "rollout": 3}
    found = []
    # The run of several lengths goes on from its checkpoint after one step, and after three.
    for name, lengths, more in (
        ("whole", [4], {"equation_labels": labels}),
        ("resumed", [1, 3, 4], {"equation_labels": labels}),
        ("without", [4], {}),
    ):
        for steps in lengths:
            config = stage(
                waves, source, loop={**loop, "steps": steps}, output=tmp_path / name, **values, **more
            )
            run(config)
        found.append(load(config.output / "model").network.state_dict())
    whole, resumed, without = found
    assert all(torch.equal(weight, resumed[name]) for name, weight in whole.items())
    assert not all(torch.equal(weight, without[name]) for name, weight in whole.items())


@pytest.mark.parametrize("engine", [{"zero_stage": 3}, {"domain": 2}])
def test_states_are_not_made_where_a_process_has_part_of_the_network_or_sample(
    waves: Path, source: Path, engine: dict[str, int]
) -> None:
    with pytest.raises(ValidationError, match=f"equation_labels: .*{next(iter(engine))}"):
        stage(waves, source, equation_labels={"equation": {"kind": "wave"}}, engine=engine)


def test_states_are_not_labelled_by_the_equation_of_other_data(waves: Path, source: Path) -> None:
    config = stage(waves, source, equation_labels={"equation": {"kind": "kolmogorov"}})
    with pytest.raises(DataError, match=r"equation_labels: .* lacks velocity_x, velocity_y"):
        config.assemble()


def test_samples_take_the_symmetries_of_the_equation_that_labels_them(waves: Path, source: Path) -> None:
    labels = {"equation": {"kind": "wave"}}
    data = {"path": waves, "augment": {"negate": True}}
    model, mixture = stage(waves, source, data=data, equation_labels=labels).assemble()
    mixture.close()
    assert "negations of displacement and displacement_rate" in model.domains["waves"].augmentation
    data = {"path": waves, "augment": {"equation": "kolmogorov"}}
    with pytest.raises(ConfigError, match=r"data\.augment\.equation kolmogorov is another"):
        stage(waves, source, data=data, equation_labels=labels).assemble()


def test_another_network_is_trained_from_scratch_alone(waves: Path, source: Path) -> None:
    network = {"kind": "unet", "dims": [4], "depth": 1}
    model, mixture = stage(waves, source, scratch=True, network=network).assemble()
    mixture.close()
    assert model.config.kind == "unet"
    assert model.domains["waves"].scales == load(source).domains["waves"].scales
    with pytest.raises(ValidationError, match="another network cannot take the model's weights"):
        stage(waves, source, network=network)


def test_scales_of_a_few_trajectories_are_of_these_alone(waves: Path, source: Path) -> None:
    store = open_store(waves)
    train = np.flatnonzero(store.splits["train"].any(axis=1))[:2]
    frames = np.stack([store.read(number, 0, store.num_times) for number in train]).astype(np.float64)
    data = {"path": waves, "num_trajectories": 2}
    model, mixture = stage(waves, source, scales="store", data=data).assemble()
    mixture.close()
    scales = model.domains["waves"].scales
    for channel, variable in enumerate(store.variables):
        found, values = scales[variable.key], frames[:, :, channel]
        assert (found.mean, found.std) == pytest.approx((values.mean(), values.std()), rel=1e-6, abs=1e-9)


def test_a_run_keeps_the_version_that_it_began_with_when_the_alias_moves(
    waves: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracking = TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db")

    def register(note: str) -> None:
        model = replace(load(source), history={"note": note})
        model.save(tmp_path / "model")
        run_id = tracking.client().create_run(tracking.experiment_id()).info.run_id
        model_registry.register(tracking, tmp_path / "model", "ocean", "champion", run_id)

    register("first")
    config = stage(
        waves, source, model="models:/ocean@champion", output=tmp_path / "run", tracking=tracking.model_dump()
    )
    digest = run_inputs.claim(config.output, config, config.inputs())
    (config.output / "checkpoints").mkdir()
    register("second")
    assert run_inputs.claim(config.output, config, config.inputs()) == digest
    assert (
        "is now models:/ocean/2; this run began with models:/ocean/1 and keeps it" in capsys.readouterr().out
    )
    model, mixture = config.assemble()
    mixture.close()
    assert model.history["note"] == "first"
    # A run of its own begins with what the alias points to by then.
    other = stage(
        waves,
        source,
        model="models:/ocean@champion",
        output=tmp_path / "other",
        tracking=tracking.model_dump(),
    )
    assert run_inputs.claim(other.output, other, other.inputs()) != digest


def test_a_run_does_not_go_on_with_a_folder_that_holds_another_model_by_now(
    waves: Path, source: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "model"
    shutil.copytree(source, copy)
    config = stage(waves, copy, output=tmp_path / "run")
    run_inputs.claim(config.output, config, config.inputs())
    (config.output / "checkpoints").mkdir()
    replace(load(copy), history={}).save(copy)
    with pytest.raises(ConfigError, match=r"the model .* had the checksum .* then and has .* now"):
        run_inputs.claim(config.output, config, config.inputs())


def test_a_model_learns_to_see_earlier_frames_and_goes_on_seeing_them(waves: Path, tmp_path: Path) -> None:
    dataset = DatasetConfig(path=waves).open()
    config, signature = UNetConfig(dims=(4, 8), depth=1, kernel=3), signature_of([dataset.layout])
    single = Model(config, config.build(signature).eval(), signature, {"waves": domain_of(dataset)})
    single.save(tmp_path / "single")
    widened = stage(waves, tmp_path / "single", data={"path": waves, "history": [1]}, output=tmp_path / "run")
    (tmp_path / "run").mkdir()
    model, mixture = widened.assemble()
    batch = mixture.datasets[0].batch(np.arange(4))
    mixture.close()
    given = context_of(model.signature, batch.layout, batch.scalars, batch.lead_time)
    before = context_of(signature, dataset.layout, batch.scalars, batch.lead_time)
    with torch.no_grad():
        # What it has not learnt to use changes nothing yet.
        torch.testing.assert_close(
            model.network.eval()(batch.inputs, batch.lead_time, given),
            single.network(batch.inputs[:, :3], batch.lead_time, before),
        )
    model.save(tmp_path / "several")
    model, mixture = stage(waves, tmp_path / "several", output=tmp_path / "run").assemble()
    mixture.close()
    assert mixture.datasets[0].layout.history == (1,)
    assert model.domains["waves"].history == (1,)
    assert model.domains["waves"].frame_time == pytest.approx(dataset.store.dt)
