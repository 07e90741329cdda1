"""Every shipped configuration is valid."""

import re
from pathlib import Path

import pytest
import torch

from pelagos.models.context import Signature
from pelagos.pipeline.runs import configuration
from pelagos.pipeline.runs.commands import STAGES, config_class
from pelagos.pipeline.stages.pretrain import PretrainStage
from pelagos.preprocessing.variables import Variable, keys

FILES = sorted(configuration.SHIPPED.rglob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(configuration.SHIPPED)))
def test_a_shipped_configuration_loads_as_what_its_folder_says(file: Path) -> None:
    command = configuration.read_yaml(file)["command"]
    assert command in STAGES
    folder = file.relative_to(configuration.SHIPPED).parent.name
    assert folder == ("" if command == "demo" else command)
    loaded = configuration.load(file, [], config_class(command))
    assert loaded.command == command


def test_what_a_shipped_configuration_reads_is_what_another_writes() -> None:
    from pelagos.pipeline.stages.demo import DemoStage, demo_steps

    stages = [(file, configuration.read_yaml(file)) for file in FILES if file.parent != configuration.SHIPPED]
    written = {
        f"{values['output']}/model" for _, values in stages if values["command"] in ("pretrain", "finetune")
    }
    written |= {values["output"] for _, values in stages if values["command"] == "simulate"}
    written |= {
        "stores/{0}/{0}-{1}.zarr".format(values["dataset"], values.get("version", "1"))
        for _, values in stages
        if values["command"] == "build"
    }
    demo = list(demo_steps(configuration.load("demo", [], DemoStage)))
    written |= {str(step.config.path) for step in demo if step.command == "build"}
    written |= {f"{step.config.output}/model" for step in demo if step.command in ("pretrain", "finetune")}
    # Archives come from elsewhere; of what Pelagos makes itself nothing may be missing.
    read = {
        (file.name, value)
        for file, values in stages
        for value in re.findall(r"'((?:stores|runs|archives)/[^']*)'", str(values | {"output": None}))
    }
    assert not {(name, value) for name, value in read if value not in written}
    assert len(read) > 5


def test_the_demos_refinement_by_itself_is_that_of_the_demo() -> None:
    from pelagos.pipeline.stages.demo import DemoStage, demo_steps
    from pelagos.pipeline.stages.refine import RefineStage

    demo = demo_steps(configuration.load("demo", [], DemoStage))
    [stage] = [step.config for step in demo if step.command == "refine"]
    alone = configuration.load("refine/demo", [], RefineStage)
    assert alone.model_copy(update={"output": stage.output, "tracking": stage.tracking}) == stage


def test_the_stages_of_the_demo_are_checked_before_anything_runs() -> None:
    from pelagos.pipeline.stages.demo import DemoStage, demo_steps

    demo = configuration.load("demo", ["seed=3"], DemoStage)
    commands = [step.command for step in demo_steps(demo)]
    # A version is promoted against a champion, which a first run has not got.
    assert set(commands) == set(STAGES) - {"demo", "promote", "sweep"}
    assert all(
        "seed-3" in str(step.config.output) for step in demo_steps(demo) if hasattr(step.config, "output")
    )


def test_the_configuration_of_credit_has_the_names_and_shapes_of_its_published_weights(shared: Path) -> None:
    lines = (shared / "fixtures/credit/keys_wxformer_6h_npj_crossformer.txt").read_text().splitlines()
    listing = dict(line.split(" ", 1) for line in lines if not line.startswith("#"))
    # Sixteen levels of four fields, seven single ones, two static ones and a forcing: its channels are variables.
    levels = (10, 30, 40, 50, 60, 70, 80, 90, 95, 100, 105, 110, 120, 130, 136, 137)
    names = ("SP", "t2m", *(f"{name}500" for name in "UVTZQ"))
    state = [Variable(name=name, level=level) for name in "UVTQ" for level in levels]
    state += [Variable(name=name) for name in names]
    fixed = [Variable(name=name, role="static") for name in ("Z_GDS4_SFC", "LSM")]
    signature = Signature(
        keys([*state, *fixed, Variable(name="tsi", role="forcing")]), keys(state), shape=(640, 1280)
    )
    config = configuration.load("pretrain/credit", [], PretrainStage)
    with torch.device("meta"):
        weights = config.network.build(signature).state_dict()
    found = {name.removeprefix("body."): str(list(weight.shape)) for name, weight in weights.items()}
    # Left out are what the reference allocates and never calls.
    assert found == {name: shape for name, shape in listing.items() if not name.startswith("cube_embedding.")}
