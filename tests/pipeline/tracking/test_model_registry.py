"""The registry: versions come back and never change, and a wrong name says which ones there are."""

import os
from functools import partial
from pathlib import Path

import numpy as np
import processes
import pytest

from pelagos.models.context import Signature
from pelagos.models.networks.fourier.fno import FNOConfig
from pelagos.pipeline.runs.model_checksum import model_checksum
from pelagos.pipeline.runs.model_folder import Model, load
from pelagos.pipeline.stages.register import RegisterStage, run
from pelagos.pipeline.tracking import model_registry
from pelagos.pipeline.tracking.tracker import TrackingConfig
from pelagos.preprocessing.errors import DamagedFileError, DataError, MissingFileError, TemporaryError
from tests.byte_changes import one_bit_changes


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> TrackingConfig:
    """A registry with two versions of one model."""
    folder = tmp_path_factory.mktemp("registry")
    config = TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db")
    model = folder / "model"
    model.mkdir()
    for number in (1, 2):
        (model / "model.json").write_text(str(number))
        run = config.client().create_run(config.experiment_id())
        model_registry.register(config, model, "ocean", "champion", run.info.run_id)
    return config


def test_an_alias_points_to_the_newest_version_and_a_number_to_its_own(tracking: TrackingConfig) -> None:
    assert (model_registry.resolve("models:/ocean@champion", tracking) / "model.json").read_text() == "2"
    assert (model_registry.resolve("models:/ocean/1", tracking) / "model.json").read_text() == "1"


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("models:/ocean@challenger", "has no alias 'challenger' .* it has: champion"),
        ("models:/lake@champion", "no model 'lake' .* there are: ocean"),
        ("models:/ocean/7", "has no version '7'"),
        ("runs/nothing", "no model folder runs/nothing"),
    ],
)
def test_a_wrong_reference_says_what_there_is(tracking: TrackingConfig, reference: str, message: str) -> None:
    with pytest.raises(MissingFileError, match=message):
        model_registry.resolve(reference, tracking)


def test_a_reference_without_a_version_asks_for_one(tracking: TrackingConfig) -> None:
    with pytest.raises(DataError, match="write models:/ocean@ALIAS"):
        model_registry.resolve("models:/ocean", tracking)


def test_models_beyond_the_servers_first_page_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db")
    client = config.client()
    for name in "abcde":
        client.create_registered_model(name)
    # A page holds a hundred unless two are asked for.
    monkeypatch.setattr(
        client, "search_registered_models", partial(client.search_registered_models, max_results=2)
    )
    monkeypatch.setattr(TrackingConfig, "client", lambda self: client)
    with pytest.raises(MissingFileError, match="'e' has no alias 'best'"):
        model_registry.resolve("models:/e@best", config)
    with pytest.raises(MissingFileError, match="there are: a, b, c, d, e"):
        model_registry.resolve("models:/f@best", config)


def register_one(folder: str, uri: str) -> None:
    """What each of several processes does at once."""
    config = TrackingConfig(uri=uri)
    run = config.client().create_run(config.experiment_id())
    # Files of its own: the same ones would be the same version.
    model = Path(folder, str(os.getpid()))
    model.mkdir()
    (model / "model.json").write_text(str(os.getpid()))
    version = model_registry.register(config, model, "ocean", "champion", run.info.run_id)
    Path(folder).with_name(f"version-{version.version}").touch()


def test_six_may_register_the_first_version_at_once(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    processes.run(Path(__file__), "register_one", 6, {"folder": str(tmp_path / "model"), "uri": uri})
    assert sorted(file.name for file in tmp_path.glob("version-*")) == [f"version-{n}" for n in range(1, 7)]
    client = TrackingConfig(uri=uri).client()
    assert int(client.get_registered_model("ocean").aliases["champion"]) == 6


def test_a_server_that_is_away_is_a_fault_that_passes() -> None:
    config = TrackingConfig(uri="http://127.0.0.1:9")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with pytest.raises(TemporaryError, match="does not answer"):
            model_registry.resolve("models:/ocean@champion", config)


def model(folder: Path, note: str) -> Path:
    config = FNOConfig(width=2, modes=(1, 1), num_layers=1)
    signature = Signature(("u",), ("u",), shape=(4, 4))
    Model(config, config.build(signature), signature, {}, {"note": note}).save(folder)
    return folder


def note(reference: str, tracking: TrackingConfig) -> str:
    return str(load(model_registry.resolve(reference, tracking)).history["note"])


def test_the_same_run_registers_other_files_beside_its_earlier_version(
    tracking: TrackingConfig, tmp_path: Path
) -> None:
    client = tracking.client()
    run_id = client.create_run(tracking.experiment_id()).info.run_id
    place = tmp_path / "model"
    first = model_registry.register(tracking, model(place, "first"), "river", "champion", run_id)
    second = model_registry.register(tracking, model(place, "second"), "river", "champion", run_id)
    assert (first.version, second.version) == (1, 2)
    assert note("models:/river/1", tracking) == "first"
    assert note("models:/river@champion", tracking) == note("models:/river/2", tracking) == "second"
    assert model_registry.pinned("models:/river@champion", tracking) == "models:/river/2"


def test_the_same_files_make_no_version_and_say_so(
    tracking: TrackingConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = model(tmp_path / "model", "only")
    values = {"model": folder, "name": "sea", "tracking": tracking}
    version = run(RegisterStage.model_validate(values))
    assert version.checksum == model_checksum(folder)
    runs = len(tracking.client().search_runs([tracking.experiment_id()]))
    again = run(RegisterStage.model_validate({**values, "alias": "second"}))
    assert (again.version, again.alias) == (1, "second")
    assert (
        "registered already, with the same files: models:/sea@second is version 1" in capsys.readouterr().out
    )
    assert len(tracking.client().search_runs([tracking.experiment_id()])) == runs


def test_sixty_changes_of_a_byte_of_a_version_are_refused(tracking: TrackingConfig, tmp_path: Path) -> None:
    run(
        RegisterStage.model_validate(
            {"model": model(tmp_path / "m", "x"), "name": "bay", "tracking": tracking}
        )
    )
    folder = model_registry.resolve("models:/bay@champion", tracking)
    rng = np.random.default_rng(0)
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == ["SHA256SUMS", "model.json", "weights.safetensors"]
    for file in files:
        for _ in one_bit_changes(file, 20, rng):
            with pytest.raises(DamagedFileError):
                load(model_registry.resolve("models:/bay@champion", tracking))


def test_a_version_that_was_replaced_as_a_whole_is_refused(tracking: TrackingConfig, tmp_path: Path) -> None:
    run(
        RegisterStage.model_validate(
            {"model": model(tmp_path / "m", "x"), "name": "fjord", "tracking": tracking}
        )
    )
    model(model_registry.resolve("models:/fjord/1", tracking), "forged")
    with pytest.raises(DamagedFileError, match="models:/fjord/1 was registered with the checksum"):
        model_registry.resolve("models:/fjord/1", tracking)
