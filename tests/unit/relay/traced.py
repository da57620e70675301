"""Committed work with a trace that can be opened, and a node that opens it, well or badly."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio

from gesso.chain import events as on_chain
from gesso.chain.events import ContractEvent
from gesso.transport.binding import peer_id_bytes
from gesso.transport.memory import MemoryHub, MemoryTransport
from gesso.transport.port import PeerId
from gesso_protocol.audit.bundle import Bundle, Form, open_leaf
from gesso_protocol.hashing import keccak256, sha256
from gesso_protocol.ids import Address, BlobRef, Root
from gesso_protocol.messages import (
    PROTOCOL_BLOB,
    PROTOCOL_OPEN,
    BlobReply,
    BlobRequest,
    OpenReply,
    OpenRequest,
    encode_blob_reply,
)
from gesso_protocol.money import Wei
from gesso_protocol.spec import Spec, TextToImage, spec_bytes, spec_ref
from gesso_protocol.terms import Terms, task_id
from gesso_protocol.trace import Binding, Layout, LeafKind, Run, Slot, TraceManifest, trace_leaves, trace_root
from gesso_protocol.training.openings import RunLeaf, RunOpenings
from gesso_protocol.training.presets import make_training
from gesso_protocol.training.trace import TrainingFacts, TrainingLayout, segments

from .fakechain import ALICE, BOARD, CHAIN_ID, GENESIS_S, NODE, NOWHERE, registered

PICTURE = TextToImage(prompt="a red circle", model="tiny@1", steps=12, guidance=5.0)
TRAINING = make_training("gesso-tiny@1", dataset=BlobRef(bytes(32)), steps=100, checkpoint_every=20)


@dataclass
class Work:
    """One committed task. `blobs` is what its node can give away."""

    spec: Spec
    nonce: int = 1
    node: Address = NODE
    blobs: dict[BlobRef, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.terms = Terms(requester=ALICE, fee=Wei(10**16), spec=spec_ref(self.spec), claim_window_s=60,
                           commit_window_s=60, nonce=self.nonce, kind=int(self.spec.task_kind))  # fmt: skip
        self.task = task_id(CHAIN_ID, BOARD, self.terms)
        self.run = Run(CHAIN_ID, BOARD, self.task, self.node)
        self.binding = Binding(CHAIN_ID, BOARD, self.task, self.node, b"\x07" * 32)
        picture = isinstance(self.spec, TextToImage)
        self.layout: Any = (
            Layout.of(self.spec) if isinstance(self.spec, TextToImage) else TrainingLayout.for_run(TRAINING)
        )
        self.leaves: dict[Slot, Any] = {
            slot: (self._recorded if picture else self._trained)(slot) for slot in self.layout.slots()
        }
        self.tree = trace_leaves(self.binding, self.layout, {slot: leaf.digest for slot, leaf in self.leaves.items()})
        self.root = trace_root(self.tree)
        self.keep(spec_bytes(self.spec))

    def keep(self, data: bytes) -> BlobRef:
        ref = BlobRef.of(data)
        self.blobs[ref] = data
        return ref

    def opened(self, slots: Iterable[Slot] | None = None, changed: Mapping[Slot, Any] | None = None) -> bytes:
        """A bundle of these leaves, or of all; some of them perhaps others than were committed."""
        leaves = {**self.leaves, **(changed or {})}
        chosen = [leaves[slot] for slot in (self.layout.slots() if slots is None else slots)]
        form: Any = Bundle if isinstance(self.spec, TextToImage) else RunOpenings
        data: bytes = form.encode(chosen, self.tree, self.layout)
        return data

    def history(self, peer: PeerId) -> list[ContractEvent]:
        """Registered, ordered, claimed, committed."""
        at: dict[str, Any] = {"task": self.task, **NOWHERE}
        roots = {"result_root": Root(b"\x01" * 32), "trace_root": self.root}
        return [
            registered(self.node, peer_id=peer_id_bytes(peer)),
            on_chain.TaskSubmitted(**at, requester=ALICE, terms=self.terms, seed=2**100, at=GENESIS_S),
            on_chain.TaskClaimed(**at, node=self.node, commit_by=GENESIS_S + 90),
            on_chain.TaskCommitted(**at, node=self.node, **roots, settle_after=GENESIS_S + 100),
        ]

    def _recorded(self, slot: Slot) -> Any:
        if slot.kind is LeafKind.MANIFEST:
            assert isinstance(self.spec, TextToImage)
            manifest = TraceManifest.of(self.spec, BlobRef(bytes(32)), b"{}", "fp32/cpu-x86_64")
            return open_leaf(self.binding, slot, manifest.encode(), (), Form.PLAIN)
        if slot.kind is LeafKind.FILE:
            return open_leaf(self.binding, slot, b"", (), Form.BARE, sha256(b"file"))
        seed = keccak256(f"{slot}".encode())
        if slot.kind is LeafKind.RGB:
            return open_leaf(self.binding, slot, seed[:12], (2, 2, 3), Form.UINT8)
        return open_leaf(self.binding, slot, seed, (1, 8), Form.FP32)

    def _trained(self, slot: Slot) -> Any:
        salt = self.binding.salt(slot)
        if slot.kind is LeafKind.MANIFEST:
            told: dict[str, Any] = {"model_manifest": BlobRef(bytes(32)), "dataset": TRAINING.dataset}
            facts = TrainingFacts(
                spec=spec_ref(TRAINING), seed="00" * 32, steps_done=100, dtype="fp32", profile="fp32/cpu", **told
            )
            return RunLeaf.inline(slot, salt, facts.encode())
        if slot.kind is LeafKind.LOSSES:
            one = segments(TRAINING)[slot.step]
            return RunLeaf.inline(slot, salt, struct.pack(f"<{one.last - one.first}d", *range(one.first, one.last)))
        if slot.kind is LeafKind.DATASET:
            return RunLeaf(slot, salt, bytes(32))
        data = f"{slot} of {self.task}".encode()
        return RunLeaf.file(slot, salt, sha256(data), self.keep(data), len(data))


@dataclass
class NodeDouble:
    """Opens with what `bundles` holds for a phase; `asked` counts questions. It answers when `answers` is set."""

    work: Work
    bundles: dict[str, bytes] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    given: Counter[BlobRef] = field(default_factory=Counter)
    answers: anyio.Event = field(default_factory=anyio.Event)
    claims: dict[BlobRef, int] = field(default_factory=dict)
    """Sizes that it says a blob has."""

    async def opens(self, _peer: PeerId, data: bytes) -> bytes:
        question = OpenRequest.decode(data)
        self.asked[question.phase] += 1
        await self.answers.wait()
        bundle = self.bundles.get(question.phase)
        told: dict[str, Any] = {"task": question.task, "phase": question.phase}
        if bundle is None:
            return OpenReply(**told, status="not-yet").encode()
        return OpenReply(**told, trace_root=self.work.root, bundle=self.work.keep(bundle)).encode()

    async def gives(self, _peer: PeerId, data: bytes) -> bytes:
        question = BlobRequest.decode(data)
        whole = self.work.blobs.get(question.blob)
        if whole is None:
            return encode_blob_reply(BlobReply(status="missing"))
        self.given[question.blob] += question.length > 0
        size = self.claims.get(question.blob, len(whole))
        body = whole[question.offset : question.offset + question.length]
        return encode_blob_reply(BlobReply(status="ok", size=size, length=len(body)), body)


@asynccontextmanager
async def peers(*nodes: NodeDouble) -> Any:
    """A relay's transport that is connected to these nodes, and their peer ids."""
    hub = MemoryHub()
    async with MemoryTransport(hub) as mine:
        ids: list[PeerId] = []
        async with anyio.create_task_group() as group:
            over = anyio.Event()

            async def live(node: NodeDouble) -> None:
                async with MemoryTransport(hub) as theirs:
                    theirs.serve(PROTOCOL_OPEN, node.opens, max_request=OpenRequest.MAX_BYTES, max_concurrent=32)
                    theirs.serve(PROTOCOL_BLOB, node.gives, max_request=BlobRequest.MAX_BYTES)
                    await mine.connect(theirs.addresses[0])
                    ids.append(theirs.peer_id)
                    ready.set()
                    await over.wait()

            for node in nodes:
                ready = anyio.Event()
                group.start_soon(live, node)
                await ready.wait()
            yield mine, ids
            over.set()
