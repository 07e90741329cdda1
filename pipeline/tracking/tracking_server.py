"""Tracking server: a client of MLflow, and what its errors mean."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pelagos.preprocessing.errors import DataError, TemporaryError
from pelagos.preprocessing.files.durable import lock

_TURN = 120.0  # seconds to wait for other processes


def client_of(uri: str) -> Any:
    """An MLflow client of a server or database."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # MLflow would retry for minutes; the tracker itself tries again later.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    import logging

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow.tracking import MlflowClient
    for logger in ("mlflow.store.db.utils", "alembic", "alembic.runtime.migration"):
        logging.getLogger(logger).setLevel(logging.WARNING)
    # Processes that make the tables of one database at once spoil each other's.
    with in_turn(uri, "tables"):
        return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextmanager
def in_turn(uri: str, purpose: str) -> Iterator[None]:
    """Keep other processes from doing the same with a database in a file, which no server puts in order.

    Raises:
        LockedError: others have been at it for minutes.
    """
    file = database_file(uri)
    if file is None:
        yield
        return
    with lock(file.with_name(f".{file.name}.{purpose}.lock"), patience=_TURN):
        yield


def database_file(uri: str) -> Path | None:
    """The file of a database on this machine, whose folder is made where it is missing; None for a server."""
    if not uri.startswith("sqlite:///"):
        return None
    file = Path(uri.removeprefix("sqlite:///")).resolve()
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


@contextmanager
def server_errors(uri: str) -> Iterator[None]:
    """Turn what MLflow raises into errors that say whether trying again helps.

    Raises:
        TemporaryError: the server is away, overloaded or in trouble.
        DataError: it refuses what it was asked for.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except MlflowException as error:
        if error.error_code in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"):
            raise TemporaryError(f"MLflow at {uri} does not answer: {error}") from error
        raise DataError(f"MLflow at {uri} refuses: {error}") from error
    except SQLAlchemyError as error:
        raise TemporaryError(f"MLflow at {uri} does not answer: {error}") from error
