import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import DamagedFileError, DataError, MissingFileError, UnreachableError
from pelagos.preprocessing.files import location
from pelagos.preprocessing.files.location import (
    ByteRange,
    Folder,
    Location,
    Url,
    fetch,
    fetch_existing,
    locate,
    read_all,
)


class Places(Config):
    store: Location
    root: Folder


class Replies:
    """Stands for fsspec's file system: gives one list of replies after the other."""

    async_impl = False

    def __init__(self, *replies: Sequence[bytes | BaseException]) -> None:
        self.replies, self.asked = list(replies), [0]

    def cat_ranges(self, urls: list[str], *_: Any, **__: Any) -> Sequence[bytes | BaseException]:
        self.asked.append(len(urls))
        return self.replies.pop(0)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(location, "RETRY_DELAYS", (0.0, 0.0))

    def replies(*lists: Sequence[bytes | BaseException]) -> Replies:
        system = Replies(*lists)
        monkeypatch.setattr(location, "_filesystem", lambda url: system)
        return system

    return replies


A, B = Url("https://host/data/a"), Url("https://host/data/b")


def test_a_url_has_the_parts_of_a_path() -> None:
    url = Url("s3://bucket/data/a.zarr")
    assert (url.protocol, url.name, url.stem) == ("s3", "a.zarr", "a")
    assert str(url.parent / "b") == str(url.with_name("b")) == "s3://bucket/data/b"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("data/a.zarr", Path("data/a.zarr")),
        ("~/a", Path(os.path.expanduser("~/a"))),
        ("file:///data/a%20b", Path("/data/a b")),
        ("HTTPS://host/a/", Url("https://host/a")),
        ("not a protocol://x", Path("not a protocol://x")),
    ],
)
def test_texts_are_paths_unless_they_begin_with_a_protocol(text: str, place: Path | Url) -> None:
    assert locate(text) == place
    assert locate(place) is place


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("htp://host/a", "unknown protocol 'htp'; use https"),
        ("https://host/a?token=secret", "credentials"),
        ("https://host/a#part", "must not have"),
    ],
)
def test_what_is_no_place_is_refused_without_repeating_it(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        locate(text)
    assert "secret" not in str(caught.value)


def test_configurations_read_from_anywhere_and_write_here_only() -> None:
    places = Places.model_validate({"store": "https://host/a", "root": "stores"})
    assert places == Places.model_validate_json(places.model_dump_json())
    assert isinstance(places.store, Url)
    with pytest.raises(ValidationError, match="only a folder of this machine can be written to"):
        Places.model_validate({"store": "a", "root": "s3://bucket/stores"})
    with pytest.raises(ValidationError, match="should be a path or a URL"):
        Places.model_validate({"store": 3, "root": "stores"})


def test_lengths_of_ranges_are_known_where_both_ends_are() -> None:
    ends: list[tuple[int | None, int | None]] = [(None, None), (4, 10), (-16, None), (4, None), (None, 3)]
    assert [ByteRange(A, *pair).length for pair in ends] == [None, 6, 16, None, None]
    assert str(ByteRange(A, 4, 10)) == "https://host/data/a, bytes 4 to 10"
    assert str(ByteRange(A, -16)) == "https://host/data/a, from byte -16 on"


def test_only_what_failed_is_asked_for_again(serve: Any) -> None:
    system = serve([b"first", OSError("reset")], [b"second"])
    assert fetch([ByteRange(A), ByteRange(B)]) == [b"first", b"second"]
    assert system.asked == [0, 2, 1]


def test_a_missing_file_is_no_reason_to_try_again(serve: Any) -> None:
    system = serve([b"first", FileNotFoundError("b")])
    assert fetch_existing([ByteRange(A), ByteRange(B)]) == [b"first", None]
    assert system.asked == [0, 2]
    serve([FileNotFoundError("b")])
    with pytest.raises(MissingFileError, match="data/b: no such file on the server"):
        fetch([ByteRange(B)])


def test_a_refusal_is_final_and_silence_is_not(serve: Any) -> None:
    system = serve([PermissionError("who are you")])
    with pytest.raises(DamagedFileError, match="data/a: the server does not send it: who are you"):
        fetch([ByteRange(A)])
    assert system.asked == [0, 1]
    system = serve(*[[TimeoutError("silence")]] * 3)
    with pytest.raises(DamagedFileError, match="does not send it, tried 3 times: silence"):
        fetch([ByteRange(A)])
    assert system.asked == [0, 1, 1, 1]


def test_too_few_or_too_many_bytes_are_told_apart(serve: Any) -> None:
    serve([b"123"])
    with pytest.raises(DamagedFileError, match="bytes 0 to 4: the file ends after 3"):
        fetch([ByteRange(A, 0, 4)])
    serve([b"12345"])
    with pytest.raises(DataError, match="sent 5 bytes, so it ignores ranges"):
        fetch([ByteRange(A, 0, 4)])


def test_files_are_read_in_order_from_disk_and_server(serve: Any, tmp_path: Path) -> None:
    serve([b"remote", FileNotFoundError("b")])
    (tmp_path / "local").write_bytes(b"local")
    assert list(read_all([A, tmp_path / "local", B, tmp_path / "absent"])) == [
        b"remote",
        b"local",
        None,
        None,
    ]


@pytest.mark.parametrize("drips", ["body", "headers"])
def test_a_server_that_drips_is_given_up(drips: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(location, "RETRY_DELAYS", ())
    monkeypatch.setattr(location, "_SILENCE", 0.4)
    began = time.monotonic()
    with dripping(drips) as url, pytest.raises(UnreachableError, match="the server does not send it"):
        fetch([ByteRange(Url(f"{url}/a"), 0, 1000)])
    assert time.monotonic() - began < 10


@contextmanager
def dripping(what: str) -> Iterator[str]:
    """A server that sends a byte now and then, so that it is never silent."""
    ended = threading.Event()

    def answer(connection: socket.socket) -> None:
        head = b"HTTP/1.1 206 Partial Content\r\nContent-Length: 1000\r\n\r\n"
        with suppress(OSError), connection:
            connection.recv(4096)
            if what == "body":
                connection.sendall(head)
            for byte in head if what == "headers" else bytes(1000):
                connection.sendall(bytes([byte]))
                if ended.wait(0.1):
                    return

    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=answer, args=(listening.accept()[0],), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            ended.set()
            listening.shutdown(socket.SHUT_RDWR)
