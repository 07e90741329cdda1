"""Credentials in URLs are found, refused with the way to give them, and hidden where a message repeats them."""

import base64
import json
import logging
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import typer
from pydantic import ValidationError
from typer.testing import CliRunner

from pelagos.models.context import Signature
from pelagos.models.networks.fourier.fno import FNOConfig
from pelagos.pipeline.cli import app, reported
from pelagos.pipeline.runs.configuration import validate
from pelagos.pipeline.runs.model_folder import Model
from pelagos.pipeline.stages.pretrain import PretrainStage
from pelagos.pipeline.tracking.tracker import Tracker, TrackingConfig
from pelagos.preprocessing.errors import ConfigError, DamagedFileError
from pelagos.preprocessing.files.location import Url, locate
from pelagos.preprocessing.safety.credentials import (
    credential_faults,
    fault_of,
    redacted,
    redacted_logs,
    redacted_tree,
)

SECRET = "hunter2"
WITH_SECRET = [
    f"https://ann:{SECRET}@host/a.zarr",
    f"https://{SECRET}@host/a.zarr",
    f"HTTPS://ann:{SECRET}@host",
    f"https://ann:{SECRET}@x@host/a",
    f"postgresql+psycopg2://ann:{SECRET}@host:5432/runs",
    f"postgresql://ann:{SECRET}/1@host/runs",
    f"s3://KEY:{SECRET}@bucket/a",
    f"https://host/a?X-Amz-Date=1&X-Amz-Signature={SECRET}",
    f"https://host/a?sig={SECRET}",
    f"https://host/a?access_token={SECRET}&x=1",
    f"mysql://host/d?password={SECRET}",
]
WITHOUT = [
    "https://host:8080/a@b/c",
    "https://host/a?signal=3",
    "postgresql://ann@host/runs",
    "abfs://container@account.dfs.core.windows.net/a",
    "github://owner:repository@commit/path",
    "hf://datasets/ann/waves@main/a",
    "sqlite:////data/a@b.db",
    "file:///data/a:b@c",
    "mail ann@host about: this",
]


@pytest.mark.parametrize("url", WITH_SECRET)
def test_a_secret_is_found_and_hidden(url: str) -> None:
    assert fault_of(url)
    assert SECRET not in fault_of(url)
    for text in (url, f"GET {url!r} failed", json.dumps({"uri": url}), f"<a href={url}>"):
        assert SECRET not in redacted(text)
        assert "***" in redacted(text)


@pytest.mark.parametrize("url", WITHOUT)
def test_what_is_not_secret_stays(url: str) -> None:
    assert not fault_of(url)
    assert redacted(url) == url


@pytest.mark.parametrize("url", WITH_SECRET)
def test_no_place_takes_it_and_none_repeats_it(url: str) -> None:
    with pytest.raises(ValueError, match=r"FSSPEC|unknown protocol") as place:
        locate(url)
    with pytest.raises(ValidationError) as tracking:
        TrackingConfig(uri=url)
    values: dict[str, Any] = {
        "tracking": {"uri": url},
        "data": [{"path": url}],
        "network": {"args": {"a": url}},
    }
    with pytest.raises(ConfigError) as config:
        validate(values, PretrainStage, "a.yaml")
    for error in (place, tracking, config):
        assert SECRET not in str(error.value)
    told = str(config.value)
    for key in ("tracking.uri", "data.0.path", "network.args.a"):
        assert f"{key}: the URL has" in told
    for way in ("MLFLOW_TRACKING_PASSWORD", "netrc", "environment"):
        assert way in told


def test_commands_refuse_it_wherever_it_is_given(tmp_path: Path) -> None:
    url = f"https://ann:{SECRET}@127.0.0.1:9/a.zarr"
    (tmp_path / "a.yaml").write_text(
        json.dumps({"command": "register", "model": "m", "name": "n", "tracking": {"uri": url}})
    )
    for arguments in (
        ["register", str(tmp_path / "a.yaml")],
        ["check", str(tmp_path / "a.yaml"), f"output={url}"],
        ["inspect", url],
        ["verify", url],
        ["repair", url],
        ["compare", url, url],
    ):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code in (1, 2), (arguments, result.output)
        assert SECRET not in result.output
        assert "user or password" in result.output, (arguments, result.output)
        assert "Traceback" not in result.output


def test_messages_of_libraries_are_told_without_it(capsys: pytest.CaptureFixture[str]) -> None:
    url = f"https://bucket.s3/part?X-Amz-Signature={SECRET}"
    for error in (DamagedFileError(f"403 for {url}"), RuntimeError(f"403 for {url}"), OSError(5, "EIO", url)):
        with pytest.raises(typer.Exit), reported():
            raise error
        told = capsys.readouterr().err
        assert "X-Amz-Signature=***" in told
        assert SECRET not in told


def test_logs_of_libraries_are_written_without_it(caplog: pytest.LogCaptureFixture) -> None:
    with redacted_logs():
        logging.getLogger("urllib3").warning(
            "Retrying %s, header %s", *(WITH_SECRET[0], f"Authorization: Bearer {SECRET}")
        )
    assert "Retrying https://***@host/a.zarr" in caplog.text
    assert SECRET not in caplog.text


def test_a_model_of_before_is_saved_without_it(tmp_path: Path) -> None:
    config, signature = (
        FNOConfig(width=4, modes=(2, 2), num_layers=1),
        Signature(("u",), ("u",), shape=(8, 8)),
    )
    history = {
        "pretrained": {"tracking": {"uri": WITH_SECRET[0]}, "steps": 3, "lr": 1e-3, "data": [1, None, True]}
    }
    Model(config, config.build(signature), signature, {}, history).save(tmp_path)
    text = (tmp_path / "model.json").read_text()
    assert SECRET not in text
    assert json.loads(text)["history"]["pretrained"]["steps"] == 3


def test_a_tree_keeps_everything_else() -> None:
    tree = {"a": [1, None, 2.5, True, "text"], "b": {"c": WITHOUT}}
    assert redacted_tree(tree) == tree
    assert not list(credential_faults(tree))


def test_a_tracker_warns_without_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tracker = TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db").build("run", tmp_path)
    tracker._warn(OSError(f"PUT {WITH_SECRET[7]} failed"))  # type: ignore[attr-defined]
    tracker.close()
    assert SECRET not in capsys.readouterr().err
    assert isinstance(tracker, Tracker)
    assert "mlflow" in sys.modules


class _Guarded(BaseHTTPRequestHandler):
    """Gives its content to one user only."""

    def do_GET(self) -> None:
        expected = "Basic " + base64.b64encode(f"ann:{SECRET}".encode()).decode()
        known = self.headers["Authorization"] == expected
        self.send_response(200 if known else 401)
        content = b"content" if known else b""
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name in the base class
        """Nothing is printed."""


def test_netrc_is_the_way_to_give_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login ann password {SECRET}\n")
    (tmp_path / "netrc").chmod(0o600)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Guarded)
    Thread(target=server.serve_forever, daemon=True).start()
    place = locate(f"http://127.0.0.1:{server.server_port}/a")
    assert isinstance(place, Url)
    with pytest.raises(DamagedFileError, match="401"):
        place.read_bytes()
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert place.read_bytes() == b"content"
    server.shutdown()
    server.server_close()
