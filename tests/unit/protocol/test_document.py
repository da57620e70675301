"""PROTOCOL.md and the code say the same: formats, limits, numbers, codes and names on the wire."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from gesso_protocol import encoding, manifest, merkle, messages, money, policy, result, spec
from gesso_protocol.encoding import Document
from gesso_protocol.lifecycle import Patience, TaskState
from gesso_protocol.manifest import BlobManifest, ModelManifest
from gesso_protocol.messages import OpenReply, OpenRequest
from gesso_protocol.policy import Offer, Refusal
from gesso_protocol.result import ResultManifest
from gesso_protocol.trace import LeafKind

TEXT = (Path(__file__).parents[3] / "PROTOCOL.md").read_text()
KIB = 1024


def formats(kind: type[Document] = Document) -> Iterator[str]:
    for child in kind.__subclasses__():
        if "format" in child.model_fields:
            yield child.model_fields["format"].default
        yield from formats(child)


def row(start: str) -> str:
    """The table row that begins with these words."""
    found = [line for line in TEXT.splitlines() if line.startswith(f"| {start}")]
    assert len(found) == 1, start
    return found[0]


def test_every_format_is_described() -> None:
    assert len(set(formats())) >= 12
    assert [name for name in formats() if f"`{name}`" not in TEXT] == []


@pytest.mark.parametrize("state", TaskState, ids=lambda state: state.name)
def test_states_and_their_numbers(state: TaskState) -> None:
    assert row(f"{int(state)} | {state.name.capitalize()}")


@pytest.mark.parametrize("code", [*Refusal, *LeafKind], ids=str)
def test_codes(code: str) -> None:
    assert f"`{code}`" in TEXT


def test_names_on_the_wire() -> None:
    for name in (messages.TOPIC_TASKS, messages.TOPIC_NODES, messages.PROTOCOL_PROGRESS, messages.PROTOCOL_BLOB,
                 messages.PROTOCOL_OPEN):  # fmt: skip
        assert f"`{name}`" in TEXT
    for name in (*get_args(spec.Scheduler), *get_args(spec.Dtype), *get_args(result.ExecutorName)):
        assert f"`{name}`" in TEXT


def test_the_table_of_limits() -> None:
    assert f"{spec.MAX_PROMPT_CHARS:,} characters" in row("prompt, negative prompt |")
    assert f"64–{spec.MAX_SIDE_PX} px, multiple of 8 · {spec.MAX_STEPS} · {spec.MAX_COUNT}" in row("picture side")
    assert money.MAX_FEE == 2**96 - 1
    assert "2^96-1" in row("fee |")
    sizes = [spec.MAX_SPEC_BYTES, ModelManifest.MAX_BYTES, ResultManifest.MAX_BYTES]
    assert " · ".join(f"{size // KIB} KiB" for size in sizes) + " · 4 MiB" in row("spec · model manifest")
    assert BlobManifest.MAX_BYTES == 4 * KIB**2
    small = [Offer.MAX_BYTES, messages.MAX_GOSSIP_BYTES, messages.MAX_PROGRESS_BYTES, messages.MAX_PREVIEW_BYTES]
    assert " · ".join(f"{size // KIB} KiB" for size in small) in row("offer · gossip message")
    assert (manifest.MAX_BLOB_BYTES, manifest.CHUNK_BYTES, manifest.MAX_MODEL_BYTES) == (2**35, 2**20, 2**36)
    assert "32 GiB · 1 MiB · 64 GiB" in row("blob · chunk")
    assert f"{manifest.MAX_FILES} · {manifest.MAX_PATH_CHARS} characters, {manifest.MAX_PATH_PARTS} parts" in TEXT
    assert f"| {messages.MAX_OPENINGS} |" in row("openings a request")
    assert f"2^{merkle.MAX_DEPTH} · {encoding.MAX_DEPTH} · {encoding.MAX_VALUES:,}" in row("leaves of a tree")
    assert f"{OpenRequest.MAX_BYTES // KIB} KiB → {OpenReply.MAX_BYTES // KIB} KiB" in row("request `/gesso/open/1`")
    assert policy.MEGAPIXEL_STEP == 10**6


def test_patience() -> None:
    assert f"believed lost after {Patience().resend_after_s} s" in TEXT
    assert f"waited for for {Patience().unseen_for_s} s" in TEXT


def test_the_contents_lead_somewhere() -> None:
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in TEXT.splitlines()
        if line.startswith("## ")
    }
    links = set(re.findall(r"\]\(#([^)]+)\)", TEXT))
    assert links <= headings
    assert len(headings & links) == len(headings)
