"""The part of Hugging Face's interface by which a model is published, kept in a folder, for its own client to use."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote

import huggingface_hub.constants
import pytest


class HubServer:
    """Repositories as folders `OWNER/NAME/REVISION`.

    Attributes:
        root: of the folders.
        created: what each repository was created with.
        commits: the paths of each commit.
        refusal: the status that every request is answered with; 0 for none.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.created: dict[str, dict[str, Any]] = {}
        self.commits: list[list[str]] = []
        self.refusal = 0

    def answer(self, path: str, body: bytes) -> Any:
        """The JSON that the interface answers a request with; a file's content as bytes; None where there is none."""
        parts = path.strip("/").split("/")
        match parts:
            case ["api", "validate-yaml"]:
                return {"errors": [], "warnings": []}
            case ["api", "repos", "create"]:
                asked = json.loads(body)
                name = f"{asked['organization']}/{asked['name']}"
                self.created.setdefault(name, asked)
                return {"url": f"{huggingface_hub.constants.ENDPOINT}/{name}"}
            case ["api", "models", _, _, "branch", _]:
                return {}
            case ["api", "models", _, _, "preupload", _]:
                files = json.loads(body)["files"]
                # "lfs" would hand the content to the storage behind the hub.
                return {
                    "files": [
                        {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in files
                    ]
                }
            case ["api", "models", owner, name, "commit", revision]:
                return self._commit(f"{owner}/{name}", revision, body)
            case ["api", "models", owner, name, "revision", revision]:
                folder = self.root / owner / name / revision
                files = [{"rfilename": file.name} for file in sorted(folder.iterdir())]
                return {"id": f"{owner}/{name}", "sha": self.sha(revision), "siblings": files}
            case ["api", "models", owner, name, "tree", commit]:
                files = sorted(self._folder(owner, name, commit).iterdir())
                return [
                    {"type": "file", "path": one.name, "size": one.stat().st_size, "oid": ""} for one in files
                ]
            case [owner, name, "resolve", commit, file]:
                return (self._folder(owner, name, commit) / file).read_bytes()
        return None

    def _commit(self, repository: str, revision: str, body: bytes) -> dict[str, str]:
        lines = [json.loads(line) for line in body.splitlines()]
        files = [line["value"] for line in lines if line["key"] == "file"]
        folder = self.root / repository / revision
        folder.mkdir(parents=True, exist_ok=True)
        for one in files:
            (folder / one["path"]).write_bytes(base64.b64decode(one["content"]))
        self.commits.append(sorted(one["path"] for one in files))
        return {
            "commitUrl": f"{huggingface_hub.constants.ENDPOINT}/{repository}/commit/1",
            "commitOid": self.sha(revision),
        }

    def _folder(self, owner: str, name: str, commit: str) -> Path:
        """Where the files of a commit are."""
        folders = (self.root / owner / name).iterdir()
        return next(folder for folder in folders if self.sha(folder.name) == commit)

    def sha(self, revision: str) -> str:
        """A commit's name of the right length."""
        return hashlib.sha1(revision.encode(), usedforsecurity=False).hexdigest()


@contextmanager
def serve_hub(root: Path) -> Iterator[HubServer]:
    """A hub on this machine, which `huggingface_hub` takes for its own within this context."""
    hub = HubServer(root)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Nothing: a request is no news to a test."""

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found = None if hub.refusal else hub.answer(unquote(self.path.partition("?")[0]), body)
            answer = {"error": "refused"} if found is None else found
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(hub.refusal or (404 if found is None else 200))
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", self.path.split("/")[-2])
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_POST = _answer  # noqa: N815, names of http.server

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    with pytest.MonkeyPatch.context() as patch:
        constants = huggingface_hub.constants
        patch.setattr(constants, "ENDPOINT", address)
        patch.setattr(
            constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            address + "/{repo_id}/resolve/{revision}/{filename}",
        )
        patch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        try:
            yield hub
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
