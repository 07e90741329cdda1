"""Location: where a store or an archive is, in a folder of this machine or on a server.

A place on a server is a URL of any protocol that fsspec knows (https, s3, gs, ...); it is only read, by
ranges of bytes. Credentials and endpoints come from the environment (AWS_PROFILE, FSSPEC_S3_ANON=true, ...)
or from fsspec's configuration files, never from the URL.
"""

import asyncio
import logging
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote

import fsspec
from fsspec.exceptions import FSTimeoutError
from pydantic import BeforeValidator, PlainSerializer, PlainValidator

from pelagos.preprocessing.errors import (
    ConfigError,
    DamagedFileError,
    DataError,
    MissingFileError,
    UnreachableError,
)

RETRY_DELAYS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds to wait before each retry of a failed request; after the last one it is an error."""
_SILENCE = 60.0  # seconds without a byte after which a request counts as failed
_SLOWEST = 16 << 10  # bytes a second in all, below which a server is given up: one that drips is never silent
_UNSAID = 64 << 20  # bytes that are allowed for where nobody says how many there are
_IN_FLIGHT = 32  # requests at a time
_ZARR_METADATA = ("zarr.json", ".zgroup", ".zarray", ".zmetadata")
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}
_TEMPORARY = (408, 425, 429)  # timeout, too early, too many requests; other statuses below 500 are final
# What fsspec's file systems raise without a status and what no further attempt will change.
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, TypeError, ValueError)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Url:
    """A place on a server, with those methods of `Path` that reading needs."""

    text: str

    def __str__(self) -> str:
        return self.text

    def __truediv__(self, below: str | Path) -> "Url":
        return Url(f"{self.text}/{below}")

    @property
    def protocol(self) -> str:
        """The part before `://`."""
        return self.text.partition("://")[0]

    @property
    def name(self) -> str:
        """The part after the last slash."""
        return self.text.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return Path(self.name).stem

    @property
    def parent(self) -> "Url":
        """The URL of the folder that contains this place."""
        return Url(self.text.rpartition("/")[0])

    def with_name(self, name: str) -> "Url":
        """The URL of another name in the same folder."""
        return self.parent / name

    def exists(self) -> bool:
        """Whether a Zarr group or array is here. Servers know no folders, so others look like nothing."""
        return any(
            content is not None
            for content in fetch_existing([ByteRange(self / name) for name in _ZARR_METADATA])
        )

    is_dir = exists

    def read_bytes(self) -> bytes:
        """The content of the file; raises the errors of `fetch`."""
        return fetch([ByteRange(self)])[0]


@dataclass(frozen=True)
class ByteRange:
    """Some or all bytes of a file on a server.

    Attributes:
        url: the file.
        start: first byte, counted from the end of the file if negative; None for the whole file.
        stop: one past the last byte; None for the end of the file.
    """

    url: Url
    start: int | None = None
    stop: int | None = None

    def __str__(self) -> str:
        if self.start is None:
            return str(self.url)
        if self.stop is None:
            return f"{self.url}, from byte {self.start} on"
        return f"{self.url}, bytes {self.start} to {self.stop}"

    @property
    def length(self) -> int | None:
        """Number of bytes; None where only the server knows it."""
        if self.start is None or (self.stop is None and self.start >= 0):
            return None
        return -self.start if self.stop is None else self.stop - self.start


def locate(value: Path | Url | str) -> Path | Url:
    """The path or URL that a text means: a URL begins with a protocol, anything else is a path.

    Raises:
        ValueError: the protocol is unknown, or the URL has credentials, a query or a fragment.

    >>> locate("file:///data/a%20store.zarr"), locate("https://host/data/a.zarr/").name
    (PosixPath('/data/a store.zarr'), 'a.zarr')
    """
    if not isinstance(value, str):
        return value
    protocol, separator, rest = value.partition("://")
    if not separator or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", protocol):
        return Path(value).expanduser()
    protocol = protocol.lower()
    if protocol in ("file", "local"):
        return Path(unquote(rest))
    if protocol not in fsspec.available_protocols():
        raise ValueError(f"unknown protocol {protocol!r}; use https, s3, gs or another one of fsspec")
    # URLs end up in configurations, checkpoints and provenance, so nothing secret may be part of one.
    # Imported here, since folders have no use for it.
    from pelagos.preprocessing.safety.credentials import ADVICE, fault_of

    if fault := fault_of(value):
        raise ValueError(f"the URL has {fault}; credentials belong in {ADVICE}")
    if "?" in rest or "#" in rest:
        raise ValueError(f"a URL must not have ? or #; credentials belong in {ADVICE}")
    return Url(f"{protocol}://{rest.rstrip('/')}")


def _located(value: Any) -> Path | Url:
    if not isinstance(value, str | Path | Url):
        raise ValueError("Input should be a path or a URL")
    return locate(value)


def _local(value: Any) -> Any:
    if isinstance(value, Url) or (isinstance(value, str) and isinstance(locate(value), Url)):
        raise ValueError("only a folder of this machine can be written to; copy it to the server afterwards")
    return str(locate(value)) if isinstance(value, str) else value


Location = Annotated[Path | Url, PlainValidator(_located), PlainSerializer(str, when_used="json")]
"""Type of a configuration's field for what is read: a path or a URL."""
Folder = Annotated[Path, BeforeValidator(_local)]
"""Type of a configuration's field for what is written: a path."""


def fetch(spans: Sequence[ByteRange]) -> list[bytes]:
    """The contents of byte ranges, requested side by side and retried for some seconds where they fail.

    Raises:
        ConfigError: the package that reads the protocol is not installed.
        MissingFileError: there is no such file.
        UnreachableError: the server does not answer, or too slowly.
        DamagedFileError: it refuses, or a file ends too early.
        DataError: the server sends whole files although parts were asked for.
    """
    contents = fetch_existing(spans)
    for span, content in zip(spans, contents, strict=True):
        if content is None:
            raise MissingFileError(f"{span.url}: no such file on the server")
    return [content for content in contents if content is not None]


def fetch_existing(spans: Sequence[ByteRange]) -> list[bytes | None]:
    """The contents of byte ranges as of `fetch`, with None for each file that does not exist."""
    found: dict[int, bytes | None] = {}
    waits: list[float | None] = [*RETRY_DELAYS, None]
    for wait in waits:
        missing = [number for number in range(len(spans)) if number not in found]
        failures = []
        for number, result in zip(missing, _request([spans[number] for number in missing]), strict=True):
            if isinstance(result, FileNotFoundError):
                found[number] = None
            elif isinstance(result, BaseException):
                failures.append((spans[number], result))
            else:
                found[number] = _checked(spans[number], result)
        if not failures:
            break
        _pause(*failures[0], wait)
    return [found[number] for number in range(len(spans))]


def _request(spans: Sequence[ByteRange]) -> list[bytes | BaseException]:
    if not spans:
        return []
    system = _filesystem(spans[0].url)
    urls, starts, stops = zip(*((str(span.url), span.start, span.stop) for span in spans), strict=True)
    more: dict[str, Any] = {}
    if system.async_impl:
        more = {"batch_size": _IN_FLIGHT, "timeout": _deadline(spans)}
    try:
        # Errors come back in their place, so that one failure does not discard the other contents.
        return list(system.cat_ranges(list(urls), list(starts), list(stops), on_error="return", **more))
    except FSTimeoutError:
        late = TimeoutError(f"it has not sent everything in {more['timeout']:.0f} s")
        return [late] * len(spans)


def _deadline(spans: Sequence[ByteRange]) -> float:
    """The longest time that requests may take together [s]."""
    lengths = [span.length for span in spans]
    # Where responses say how long they are, each has a deadline of its own.
    said = None if None in lengths else sum(length or 0 for length in lengths)
    return _longest(said) if said is not None else _longest(None) * len(spans)


def _longest(length: int | None) -> float:
    """The longest time for so many bytes [s]."""
    return _SILENCE + (_UNSAID if length is None else length) / _SLOWEST


def _filesystem(url: Url) -> Any:
    with needing_package(url):
        # fsspec itself keeps one file system for each protocol and set of options.
        return fsspec.filesystem(url.protocol, **filesystem_options(url))


@contextmanager
def needing_package(url: Url) -> Iterator[None]:
    """Turn the lack of the package that reads a URL's protocol into a ConfigError that says what to install."""
    try:
        yield
    except ImportError as error:
        wanted = _PACKAGES.get(url.protocol)
        advice = f"pip install 'pelagos[remote]', which brings {wanted}" if wanted else error
        raise ConfigError(f"{url}: the package that reads {url.protocol}:// is missing: {advice}") from error


def filesystem_options(url: Url) -> dict[str, Any]:
    """The options for the file system of fsspec that reads a URL."""
    if url.protocol not in ("http", "https"):
        return {}
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_SILENCE, sock_read=_SILENCE)
    # A range must count the bytes of the file, not those of a compressed transfer.
    # trust_env: credentials come from ~/.netrc, and proxies from the environment, as curl takes them.
    options = {"timeout": timeout, "response_class": _paced_response(), "trust_env": True}
    return {"client_kwargs": options, "headers": {"Accept-Encoding": "identity"}}


@cache
def _paced_response() -> type:
    """The class of responses that must not only come, but come in time; aiohttp is imported where there are any."""
    import aiohttp

    class PacedResponse(aiohttp.ClientResponse):
        async def start(self, connection: Any) -> Any:
            return await asyncio.wait_for(super().start(connection), _SILENCE)

        async def read(self) -> bytes:
            limit = _longest(self.content_length)
            try:
                return await asyncio.wait_for(super().read(), limit)
            except TimeoutError as error:
                raise TimeoutError(f"it has not sent everything in {limit:.0f} s") from error

    return PacedResponse


def _checked(span: ByteRange, content: bytes) -> bytes:
    if span.length is None or len(content) == span.length:
        return content
    if len(content) > span.length:
        raise DataError(
            f"{span}: the server sent {len(content)} bytes, so it ignores ranges, without which a store "
            "cannot be read; copy the store to this machine"
        )
    raise DamagedFileError(f"{span}: the file ends after {len(content)} of these bytes")


def _pause(span: ByteRange, error: BaseException, wait: float | None) -> None:
    """Wait before the next attempt, or raise if there is none or it would be of no use."""
    if not isinstance(error, Exception):
        raise error
    from pelagos.preprocessing.safety.credentials import redacted  # see `locate`

    status = getattr(error, "status", None)
    final = isinstance(error, _FINAL) if status is None else status < 500 and status not in _TEMPORARY
    if final or wait is None:
        tries = "" if final else f", tried {len(RETRY_DELAYS) + 1} times"
        # A server may lead to a URL that is signed, which its library repeats.
        said = redacted(getattr(error, "message", "") or str(error) or type(error).__name__)
        reason = f"{status} {said}" if status else said
        kind = DamagedFileError if final else UnreachableError
        raise kind(f"{span}: the server does not send it{tries}: {reason}") from error
    _log.warning("%s: %s; trying again in %g s", span, redacted(str(error)) or type(error).__name__, wait)
    time.sleep(wait)


def read_all(files: Sequence[Path | Url]) -> Iterator[bytes | None]:
    """The contents of files, those on a server requested side by side; None for each that is missing."""
    urls = [file for file in files if isinstance(file, Url)]
    remote: Mapping[Url, bytes | None] = dict(
        zip(urls, fetch_existing([ByteRange(url) for url in urls]), strict=True)
    )
    for file in files:
        if isinstance(file, Url):
            yield remote[file]
        else:
            yield file.read_bytes() if file.is_file() else None
