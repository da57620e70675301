"""A model that no store has any more: whoever judges the task has it from the node that ran it, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from gesso.blobs import LocalBlobs
from gesso_node.auditing.ask import Asker, FromNode
from gesso_node.models.cache import ModelCache
from gesso_node.state.journal import Entry
from gesso_node.traces.handed import Handed
from gesso_node.traces.lent import REFRESH_S, LentModels
from gesso_node.traces.openings import Openings
from gesso_node.work.run_bench import InputMissing, RunBench
from gesso_protocol.errors import BlobCorrupt, BlobMissing
from gesso_protocol.fields import UsedAdapter
from gesso_protocol.ids import Address, BlobRef, TaskId
from gesso_protocol.manifest import FileEntry, ModelKind, ModelManifest
from gesso_protocol.messages import BlobRequest, decode_blob_reply
from gesso_protocol.money import Wei
from gesso_protocol.terms import Terms

from .runs import train
from .traces import MODEL, NODE, REQUESTER, SPEC

pytestmark = pytest.mark.anyio
ME = Address("0x" + "0f" * 20)
TERMS = Terms(requester=REQUESTER, fee=Wei(1), spec=BlobRef(bytes(32)), claim_window_s=60, commit_window_s=60, nonce=1)
PEER: Any = "the node's peer id"
LARGE = 3 * 2**20 + 17


async def publish(blobs: LocalBlobs, name: str, size: int, kind: ModelKind = "base") -> BlobRef:
    files = []
    for path, data in (("model_index.json", b"{}"), ("weights.safetensors", (name.encode() * size)[:size])):
        files.append(FileEntry(path=path, size=len(data), blob=await blobs.put(data)))
    manifest = ModelManifest(name=name, version=1, kind=kind, licence="MIT", files=tuple(files))
    return await blobs.put(manifest.encode())


@dataclass
class Lender:
    """A node with a task, its journal, and peers that reach it; `forged` is what it sends in place of weights."""

    openings: Openings
    models: ModelCache
    entries: list[Entry]
    now: list[float] = field(default_factory=lambda: [0.0])
    forged: bytes = b""

    async def open_entries(self) -> list[Entry]:
        return self.entries

    async def connect(self, node: Address) -> Any:
        assert node == NODE
        return PEER

    async def request(self, peer: Any, _: str, data: bytes, **__: Any) -> bytes:
        reply = await self.openings.blob(peer, data)
        body = decode_blob_reply(reply)[1]
        return (
            reply[: len(reply) - len(body)] + self.forged[: len(body)].ljust(len(body), b"!") if self.forged else reply
        )


async def lender(folder: Path, blobs: LocalBlobs) -> Lender:
    """It has fetched a base and a LoRA for a committed task, and a model that no task of its is for."""
    base, lora = await publish(blobs, "hidden", LARGE), await publish(blobs, "style", 40, "lora")
    models = ModelCache(folder / "models", blobs, budget_bytes=2**24)
    for ref in (base, lora, await publish(blobs, "other", 40)):
        await models.ensure(ref)
    spec = SPEC.model_copy(update={"loras": (UsedAdapter(manifest=lora),)})
    entry = Entry(TaskId(bytes(32)), TERMS, 0, 0, spec, base, commit_sent_at=1)
    own = LocalBlobs(folder / "own")
    node = Lender(cast(Any, None), models, [entry])
    lent = LentModels(models, cast(Any, node), clock=lambda: node.now[0])
    node.openings = Openings(cast(Any, None), cast(Any, object()), Handed(own, own), turns=cast(Any, 1), lent=lent.path)
    return node


def judge(folder: Path, node: Lender) -> tuple[ModelCache, FromNode]:
    """A juror whose stores have nothing."""
    stores = LocalBlobs(folder / "judge")
    cache = ModelCache(folder / "judged", stores, budget_bytes=2**24)
    return cache, FromNode(Asker(ME, stores, cast(Any, node), cast(Any, node), ()), NODE)


async def test_a_jury_has_the_model_that_was_hidden_from_it(tmp_path: Path, blobs: LocalBlobs) -> None:
    node = await lender(tmp_path, blobs)
    cache, source = judge(tmp_path, node)
    base, lora = node.entries[0].manifest, cast(Any, node.entries[0].spec).loras[0].manifest
    assert base is not None
    with pytest.raises(BlobMissing):
        await cache.ensure(base)
    for ref in (base, lora):
        folder = await cache.ensure(ref, source=source)
        for path in ("model_index.json", "weights.safetensors"):
            assert (folder / path).read_bytes() == (node.models.path(ref) / path).read_bytes()


async def test_a_jury_has_the_data_set_that_was_taken_away(tmp_path: Path) -> None:
    run = await train(tmp_path / "run", steps=3)
    spec, own = run.assignment.spec, LocalBlobs(tmp_path / "own")
    models = ModelCache(run.folder / "node" / "models", own, budget_bytes=2**24)
    entry = Entry(TaskId(bytes(32)), TERMS, 0, 0, spec, MODEL, commit_sent_at=1)
    node = Lender(cast(Any, None), models, [entry])
    lent = LentModels(models, cast(Any, node), clock=lambda: node.now[0])
    node.openings = Openings(cast(Any, None), cast(Any, object()), Handed(own, own), turns=cast(Any, 1), lent=lent.path)
    cache, source = judge(tmp_path, node)
    bench = RunBench(object(), cache, LocalBlobs(tmp_path / "judge"), needs_model=False)
    with pytest.raises(InputMissing):
        await bench.inputs(spec, MODEL, bytes(32), tmp_path / "begun")
    inputs = await bench.inputs(spec, MODEL, bytes(32), tmp_path / "begun", source=source)
    assert inputs.dataset_dir == cache.path(spec.dataset)
    assert cache.has(spec.dataset)


async def test_nothing_else_of_the_cache_is_lent(tmp_path: Path, blobs: LocalBlobs) -> None:
    node = await lender(tmp_path, blobs)
    cache, source = judge(tmp_path, node)
    (other,) = {one.manifest for one in node.models.cached() if one.label == "other@1"}
    with pytest.raises(BlobMissing):
        await cache.ensure(other, source=source)
    base, entry = node.entries[0].manifest, node.entries[0]
    assert base is not None
    for entries in ([], [replace(entry, commit_sent_at=None)]):
        node.entries, node.now[0] = entries, node.now[0] + REFRESH_S
        with pytest.raises(BlobMissing):
            await cache.ensure(base, source=source)


async def test_the_journal_is_read_now_and_then_however_many_ask(tmp_path: Path, blobs: LocalBlobs) -> None:
    node = await lender(tmp_path, blobs)
    base, reads = node.entries[0].manifest, list[float]()
    assert base is not None
    found = node.open_entries

    async def counted() -> list[Entry]:
        reads.append(node.now[0])
        return await found()

    lent = LentModels(node.models, cast(Any, type("Counted", (), {"open_entries": staticmethod(counted)})),
                      clock=lambda: node.now[0])  # fmt: skip
    for second in (0.0, 0.0, 4.9, 5.0, 5.1):
        node.now[0] = second
        assert await lent.path(base) is not None
        assert await lent.path(BlobRef(bytes(32))) is None
    assert reads == [0.0, 5.0]


async def test_a_model_that_left_the_cache_is_missing(tmp_path: Path, blobs: LocalBlobs) -> None:
    node = await lender(tmp_path, blobs)
    base = node.entries[0].manifest
    assert base is not None
    weights = next(iter(ref for ref, path in node.models.parts(base).items() if path.name == "weights.safetensors"))
    question = BlobRequest(blob=weights, offset=0, length=8).encode()
    assert decode_blob_reply(await node.openings.blob(PEER, question))[0].status == "ok"
    await node.models.evict(base)
    assert decode_blob_reply(await node.openings.blob(PEER, question))[0].status == "missing"
    assert node.models.parts(base) == {}


async def test_what_the_node_forges_is_not_believed(tmp_path: Path, blobs: LocalBlobs) -> None:
    node = await lender(tmp_path, blobs)
    cache, source = judge(tmp_path, node)
    base = node.entries[0].manifest
    assert base is not None
    node.forged = b"{}"
    with pytest.raises(BlobCorrupt):
        await cache.ensure(base, source=source)
    assert not cache.has(base)
