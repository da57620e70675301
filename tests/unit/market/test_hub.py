"""Importing from a hub: the real client of the hub against a small one on loopback, honest and not."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

from gesso.market.folder import read_folder
from gesso.market.hub import fetch_repository
from gesso_devnet import model
from gesso_protocol.errors import BlobCorrupt, GessoError, ModelInvalid, Unreachable, UsageError

UNWANTED = ("README.md", "evil.py", "unet/diffusion_pytorch_model.bin")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.ThreadingHTTPServer):
    """One repository, `org/tiny`, at one commit. `asked` is what was downloaded."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {path.relative_to(model.path()).as_posix(): path.read_bytes()
                      for path in model.path().rglob("*") if path.is_file()}  # fmt: skip
        self.files |= {
            "README.md": b"# tiny",
            "unet/diffusion_pytorch_model.bin": b"\x80\x04pickle",
            "evil.py": b"boom",
        }
        self.sha, self.lies = COMMIT, dict[str, bytes]()
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def siblings(self) -> list[dict[str, Any]]:
        rows = []
        for name, data in self.files.items():
            row: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": hashlib.sha1(data).hexdigest()}
            if name.endswith(".safetensors"):
                row["lfs"] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "pointerSize": 1}
            rows.append(row)
        return rows


class Handler(http.server.BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        hub, path = self.server, self.path.partition("?")[0]
        if path == f"/api/models/org/tiny/revision/{COMMIT}":
            listing = {"id": "org/tiny", "modelId": "org/tiny", "sha": hub.sha, "siblings": hub.siblings()}
            self.send(json.dumps(listing).encode(), {"Content-Type": "application/json"}, body)
            return
        name = path.removeprefix(f"/org/tiny/resolve/{COMMIT}/")
        if name == path or name not in hub.files:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound" if name == path else "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if body:
            hub.asked.append(name)
        data = hub.lies.get(name, hub.files[name])
        etag = hashlib.sha256(hub.files[name]).hexdigest()
        self.send(data, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}, body)

    def send(self, data: bytes, headers: dict[str, str], body: bool) -> None:
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        return None


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_repository_becomes_a_folder_that_can_be_listed(hub: Hub, tmp_path: Path) -> None:
    folder = fetch_repository("org/tiny", COMMIT, tmp_path, endpoint=hub.url)
    found = read_folder(folder)
    assert {place: path.read_bytes() for place, path in found.files.items()} == {
        name: data
        for name, data in hub.files.items()
        if name not in ("README.md", "evil.py", "unet/diffusion_pytorch_model.bin")
    }
    assert not {"README.md", "evil.py", "unet/diffusion_pytorch_model.bin"} & set(hub.asked)


def test_a_file_that_is_not_what_the_hub_named_is_refused(hub: Hub, tmp_path: Path) -> None:
    name = "vae/diffusion_pytorch_model.safetensors"
    data = hub.files[name]
    hub.lies[name] = data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises((BlobCorrupt, Unreachable)):
        fetch_repository("org/tiny", COMMIT, tmp_path, endpoint=hub.url)


def test_a_hub_that_answers_for_another_commit_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.sha = "f" * 40
    with pytest.raises(ModelInvalid, match="was asked for"):
        fetch_repository("org/tiny", COMMIT, tmp_path, endpoint=hub.url)


def test_a_repository_that_is_no_diffusers_folder_is_refused_before_a_download(hub: Hub, tmp_path: Path) -> None:
    del hub.files["model_index.json"]
    with pytest.raises(ModelInvalid, match=r"has no model_index.json"):
        fetch_repository("org/tiny", COMMIT, tmp_path, endpoint=hub.url)
    assert hub.asked == []


@pytest.mark.parametrize(
    ("repository", "revision", "problem"),
    [
        ("org/tiny", None, "pinned revision"),
        ("org/tiny", "main", "pinned revision"),
        ("org/tiny", COMMIT.upper(), "pinned revision"),
        ("../../etc", COMMIT, "neither a folder nor a repository"),
        ("org/other", COMMIT, "no org/other at this revision"),
    ],
)
def test_what_cannot_be_asked_for(
    hub: Hub, repository: str, revision: str | None, problem: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=problem):
        fetch_repository(repository, revision, tmp_path, endpoint=hub.url)


def test_no_hub_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(GessoError, match=r"HF_HUB_OFFLINE|did not give"):
        fetch_repository("org/tiny", COMMIT, tmp_path, endpoint="http://127.0.0.1:9")
