"""PROTOCOL.md and the code say the same: formats, limits, numbers, codes and names on the wire."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from gesso.chain.deploy import PRODUCTION_AUDITS
from gesso_protocol import encoding, manifest, merkle, messages, money, policy, result, spec, standing
from gesso_protocol.audit.bundle import BundleHeader
from gesso_protocol.audit.envelope import Envelope
from gesso_protocol.audit.limits import LimitsTable
from gesso_protocol.audit.rules import AuditRules
from gesso_protocol.card import ModelCard
from gesso_protocol.encoding import Document
from gesso_protocol.lifecycle import Patience, TaskState
from gesso_protocol.manifest import BlobManifest, ModelManifest
from gesso_protocol.messages import OpenReply, OpenRequest
from gesso_protocol.policy import Offer, Refusal
from gesso_protocol.result import ResultManifest
from gesso_protocol.spec import TextToImage, TrainLora
from gesso_protocol.terms import BoardParams
from gesso_protocol.trace import LeafKind, TraceManifest
from gesso_protocol.training.checkpoint import KeptCheckpoint
from gesso_protocol.training.dataset import DatasetIndex
from gesso_protocol.training.openings import OpeningsHeader
from gesso_protocol.training.trace import TrainingFacts

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


def documents(kind: type[Document] = Document) -> set[type[Document]]:
    """All kinds of documents of the protocol itself, those within others too."""
    found = {kind} if kind is not Document and kind.__module__.startswith("gesso_protocol.") else set()
    return found.union(*(documents(child) for child in kind.__subclasses__()))


def chapter(number: str) -> str:
    """A chapter's or section's text, up to the next heading of any level."""
    found = re.search(rf"^##+ {re.escape(number)}\.? .*?(?=^## |^### |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None, number
    return found[0]


def test_every_field_of_every_document_is_named() -> None:
    assert {BundleHeader, Envelope, KeptCheckpoint, LimitsTable, ModelCard, OpeningsHeader} <= documents()
    assert {BoardParams, DatasetIndex, TraceManifest, TrainingFacts} <= documents()
    blocks = "".join(re.findall(r"^```$.*?^```$", TEXT, re.MULTILINE | re.DOTALL))  # headers of bundles are drawn there
    names = {(kind.__name__, field) for kind in documents() for field in kind.model_fields}
    unnamed = {
        (kind, name) for kind, name in names if f"`{name}`" not in TEXT and not re.search(rf"\b{name}\b", blocks)
    }
    assert unnamed == set()


@pytest.mark.parametrize(
    ("kind", "at", "elsewhere"),
    [(TextToImage, "4.1", {"guidance"}), (TrainLora, "20", {"model", "model_manifest", "seed"})],
)
def test_the_tables_of_specs(kind: type[Document], at: str, elsewhere: set[str]) -> None:
    rows = [line.split("|") for line in chapter(at).splitlines() if line.startswith("| `")]
    for name, field in kind.model_fields.items():
        values = [" ".join(row[2:]).replace(",", "") for row in rows if f"`{name}`" in row[1]]
        assert len(values) == (name not in elsewhere), name
        bounds = ("ge", "le", "max_length", "multiple_of")
        limits = {getattr(one, bound) for one in field.metadata for bound in bounds if hasattr(one, bound)}
        said = {"2^53-1" if limit == spec.MAX_SEED else str(limit) for limit in limits if values}
        assert {limit for limit in said if not re.search(rf"(?<![0-9]){re.escape(limit)}\b", values[0])} == set(), name


def test_the_table_of_audit_rules() -> None:
    rows = [line.split(" | ") for line in chapter("19.7").splitlines() if line.startswith("| `")]
    assert [first.strip("| `") for first, *_ in rows] == [name for name in AuditRules.model_fields if name != "format"]
    for first, shipped, *_ in rows:
        value = getattr(PRODUCTION_AUDITS, first.strip("| `"))
        text = money.format_amount(value) if isinstance(value, money.Wei) else str(value)
        assert shipped.strip("| ").replace(",", "") == text, first


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


def test_standing() -> None:
    assert f"costs it {standing.EXPIRY_COSTS} of its {standing.FULL} points" in TEXT
    assert standing.POINT_S == 3600
    assert [standing.standing_now(60, 0, at) for at in (-5, 3599, 3600, 10**9)] == [60, 60, 61, 100]
    solidity = (Path(__file__).parents[3] / "contracts" / "src" / "NodeRegistry.sol").read_text()
    assert f"FULL_STANDING = {standing.FULL};" in solidity
    assert f"EXPIRY_PENALTY = {standing.EXPIRY_COSTS};" in solidity
    assert "RECOVERY_PER_POINT = 1 hours;" in solidity


def test_the_contents_lead_somewhere() -> None:
    def anchors(mark: str) -> set[str]:
        lines = [line.lstrip("# ").lower() for line in TEXT.splitlines() if line.startswith(f"{mark} ")]
        return {re.sub(r"[^a-z0-9 -]", "", line).replace(" ", "-") for line in lines}

    links = set(re.findall(r"\]\(#([^)]+)\)", TEXT))
    assert anchors("##") <= links <= anchors("##") | anchors("###")
