"""Credentials: none in a URL, since URLs are copied to configurations, models, manifests, logs and messages."""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

HIDDEN = "***"
_USER = re.compile(r"(?<=://)[^\s/?#\"'<>]*@")
# A password with a slash in it, which no URL may have but users write; after a port such as :8080/ there is none.
_SLASHED = re.compile(r"(?<=://)[^\s/:@?#\"'<>]+:(?!\d+/)[^\s@\"'<>]+@")
_QUERY = re.compile(
    r"(?i)(?P<name>[?&;][\w.%-]*(?:token|passw|pwd|secret|signature|\bsig\b|credential|apikey|api_key|accesskey|access_key"
    r"|auth)[\w.%-]*=)(?P<value>[^\s&;\"'<>]+)"
)
_HEADER = re.compile(
    r"(?i)(?P<name>\bauthorization\b[\"']?\s*[:=]\s*[\"']?)(?P<value>(?:basic|bearer)\s+[^\s\"',}]+)"
)
_WEB = ("http", "https", "ftp")
_GITHUB = re.compile(r"(?i)github://")  # of fsspec: github://owner:repository@commit/path

ADVICE = "the environment (AWS_PROFILE, FSSPEC_...), ~/.netrc or fsspec's configuration files"
"""Where what reads archives and stores looks for credentials."""
TRACKING_ADVICE = (
    "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, MLFLOW_TRACKING_TOKEN or ~/.netrc for a server; "
    "PGPASSWORD, ~/.pgpass or an option file of its driver for a database"
)
"""Where what talks to MLflow looks for credentials."""


def fault_of(text: str) -> str:
    """What is secret in a URL, in words without the secret; an empty text for none, and for what is no URL.

    A user's name alone is a credential to web servers, which take tokens there; to databases and hdfs:// it is none.

    >>> fault_of("https://ann:pass@host/a"), fault_of("postgresql://ann@host/runs"), fault_of("https://host/a@b")
    ('a user or password', '', '')
    """
    if "://" not in text or _GITHUB.match(text):
        return ""
    users = [found.group() for pattern in (_USER, _SLASHED) for found in pattern.finditer(text)]
    web = text.partition("://")[0].lower().endswith(_WEB)
    if any(web or ":" in user for user in users):
        return "a user or password"
    return "a credential in its query" if _QUERY.search(text) else ""


def redacted(text: str) -> str:
    """A text with all credentials in URLs and headers replaced by three stars.

    >>> redacted("PUT https://ann:pass@host/a?X-Amz-Signature=1f&part=2 failed")
    'PUT https://***@host/a?X-Amz-Signature=***&part=2 failed'
    """
    if "://" in text:
        text = _SLASHED.sub(_hide_user, _USER.sub(_hide_user, text))
    return _HEADER.sub(rf"\g<name>{HIDDEN}", _QUERY.sub(rf"\g<name>{HIDDEN}", text))


def _hide_user(found: re.Match[str]) -> str:
    protocol = found.string[: found.start()].rpartition("://")[0].lower()
    if protocol.endswith("github") or (":" not in found.group() and not protocol.endswith(_WEB)):
        return found.group()
    return f"{HIDDEN}@"


@contextmanager
def redacted_logs() -> Iterator[None]:
    """Redact what is logged while the block runs, by libraries too: urllib3 logs the URLs that it tries again."""
    make = logging.getLogRecordFactory()

    def make_redacted(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        try:
            record.msg, record.args = redacted(record.getMessage()), None
        except (TypeError, ValueError):  # a library's own mistake, which its handler will report
            return record
        return record

    logging.setLogRecordFactory(make_redacted)
    try:
        yield
    finally:
        logging.setLogRecordFactory(make)


def redacted_tree(values: Any) -> Any:
    """JSON values with all texts in them redacted."""
    if isinstance(values, Mapping):
        return {key: redacted_tree(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [redacted_tree(value) for value in values]
    return redacted(values) if isinstance(values, str) else values


def credential_faults(values: Any, key: str = "") -> Iterator[str]:
    """A line for each text in a tree of values that holds a credential: its dotted key, and where it would be right."""
    if isinstance(values, Mapping | list | tuple):
        items = values.items() if isinstance(values, Mapping) else enumerate(values)
        for name, value in items:
            yield from credential_faults(value, f"{key}.{name}" if key else str(name))
    elif isinstance(values, str) and (fault := fault_of(values)):
        advice = TRACKING_ADVICE if "tracking" in key.split(".") else ADVICE
        yield f"{key}: the URL has {fault}, which would be written to files; credentials belong in {advice}"
