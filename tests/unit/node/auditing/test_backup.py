"""The encrypted copy of a trace: whole with the right wallet, noise with any other."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso.blobs import LocalBlobs
from gesso.chain.wallet import Wallet
from gesso_node.executors.trace import BYTES_FILE, INDEX_FILE, RecordedTrace
from gesso_node.state.journal import Entry
from gesso_node.traces import backup, run_backup
from gesso_node.traces.backup import TraceSecrets
from gesso_node.traces.opened import OwnTraces
from gesso_node.traces.opened_run import trace_files
from gesso_node.traces.run_backup import Index, RunBackup
from gesso_node.work.results import Outbox
from gesso_protocol.errors import BlobCorrupt, ExecutorCrashed
from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import BlobRef, TaskId
from gesso_protocol.result import ResultManifest
from gesso_protocol.trace import LeafKind, Slot, trace_root

from .runs import TASK as RUN_TASK
from .runs import Run, train
from .traces import SPEC, sell

pytestmark = pytest.mark.anyio
TASK = TaskId(keccak256(b"task"))
KEY = TraceSecrets(bytes(range(32))).backup_key(TASK)


async def test_a_trace_comes_back_as_it_was_and_shows_nothing_of_itself(tmp_path: Path) -> None:
    sold = await sell(tmp_path)
    folder = sold.own.trace.folder
    blobs = LocalBlobs(tmp_path / "blobs")
    ref = await backup.store(blobs, folder, TASK, KEY)
    assert ref is not None
    data = blobs.path(ref).read_bytes()
    assert SPEC.prompt.encode() not in data
    assert (folder / BYTES_FILE).read_bytes()[:64] not in data
    await backup.restore(blobs, ref, tmp_path / "back", TASK, KEY)
    again = RecordedTrace.read(tmp_path / "back", SPEC)
    assert tuple(again.leaves(sold.own.binding)) == sold.own.tree
    for name in (BYTES_FILE, INDEX_FILE):
        assert (tmp_path / "back" / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize("damage", ["bent", "cut", "gone"])
async def test_tensors_that_the_disk_broke_are_not_opened_and_come_from_the_backup(tmp_path: Path, damage: str) -> None:
    """Opened as they are they would prove nothing, and cost the node what a fraud costs."""
    sold = await sell(tmp_path)
    folder, blobs, secrets = sold.own.trace.folder, LocalBlobs(tmp_path / "blobs"), TraceSecrets(bytes(32))
    bound, terms, tensors = sold.own.binding, sold.assignment.filing.terms, folder / BYTES_FILE
    copy = await backup.store(blobs, folder, bound.task, secrets.backup_key(bound.task))
    result = ResultManifest.model_construct(trace_backup=copy)
    entry = Entry(bound.task, terms, 0, 0, SPEC, result=result, trace_root=trace_root(sold.own.tree),
                  secret=bound.secret)  # fmt: skip
    traces = OwnTraces(None, blobs, lambda _: folder, secrets, chain_id=bound.chain_id, board=bound.board,  # type: ignore[arg-type]
                       node=bound.node)  # fmt: skip
    own = await traces.read(entry)
    assert own is not None
    slots = tuple(own.trace.layout.slots())
    whole, data = own.leaves(slots), tensors.read_bytes()
    tensors.write_bytes(data[:-9] if damage == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
    if damage == "gone":
        tensors.unlink()
    with pytest.raises(ExecutorCrashed, match="not what was committed"):
        own.leaves(slots)
    back = await traces.read(entry)
    assert back is not None
    assert back.leaves(slots) == whole


async def test_other_wallets_tasks_and_bytes_are_typed_errors(tmp_path: Path) -> None:
    sold = await sell(tmp_path)
    blobs = LocalBlobs(tmp_path / "blobs")
    ref = await backup.store(blobs, sold.own.trace.folder, TASK, KEY)
    assert ref is not None
    other = TaskId(keccak256(b"another"))
    bent = bytearray(blobs.path(ref).read_bytes())
    bent[-1] ^= 1
    wrong = [
        (ref, TASK, bytes(32)),
        (ref, other, KEY),
        (await blobs.put(bytes(bent)), TASK, KEY),
        (await blobs.put(bytes(bent[:30])), TASK, KEY),
        (await blobs.put(b"rubbish"), TASK, KEY),
    ]
    for blob, task, key in wrong:
        with pytest.raises(BlobCorrupt):
            await backup.restore(blobs, blob, tmp_path / "no", task, key)
    assert not (tmp_path / "no" / INDEX_FILE).exists()


@given(st.binary(min_size=32, max_size=32).filter(lambda key: 0 < int.from_bytes(key, "big") < 2**255))
def test_secrets_follow_from_wallet_and_task_alone(key: bytes) -> None:
    secrets = TraceSecrets(Wallet.from_key(key).derive("traces"))
    again = TraceSecrets(Wallet.from_key(key).derive("traces"))
    other = TaskId(keccak256(b"another"))
    assert secrets.salt_secret(TASK) == again.salt_secret(TASK)
    found = {secrets.salt_secret(TASK), secrets.backup_key(TASK), secrets.salt_secret(other), secrets.backup_key(other)}
    assert len(found) == 4
    assert key not in found
    assert Wallet.from_key(key).derive("traces") != Wallet.from_key(key).derive("else")
    assert repr(secrets) == "TraceSecrets()"
    assert BlobRef.of(key).value != secrets.salt_secret(TASK)


async def kept(tmp_path: Path) -> tuple[Run, RunBackup, BlobRef]:
    run = await train(tmp_path / "run", steps=10)
    made = RunBackup(run.blobs, TASK, KEY)
    ref = await made.store(run.own.trace.folder, trace_files(run.own.trace), most_bytes=1 << 30)
    assert ref is not None
    return run, made, ref


async def test_a_training_comes_back_file_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_backup, "PIECE_BYTES", 500)  # so that a file has several pieces
    run, made, ref = await kept(tmp_path)
    folder, names = run.own.trace.folder, trace_files(run.own.trace)
    index = await made.index(ref)
    assert set(index.sizes) == set(names)
    assert len(index.pieces) > len(names)
    assert run_backup.pieces_of(run.blobs.path(ref).read_bytes()) == index.pieces  # for whoever passes it on
    shown = b"".join(run.blobs.path(blob).read_bytes() for blob in (ref, *index.pieces))
    assert (folder / "facts.json").read_bytes()[:40] not in shown
    some = [name for name in names if "checkpoint" in name][:1]
    await made.bring(index, some, tmp_path / "back")
    assert [path.name for path in (tmp_path / "back").iterdir()] == some
    await made.bring(index, names, tmp_path / "back")
    for name in names:
        assert (tmp_path / "back" / name).read_bytes() == (folder / name).read_bytes()
    small = [name for name in names if "losses" in name or name in ("facts.json", "digests.bin")]
    assert index.small == tuple(sorted(small))


async def test_a_backup_of_a_training_names_no_other_paths_and_mixes_no_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_backup, "PIECE_BYTES", 500)
    run, made, ref = await kept(tmp_path)
    for told in (b"{", b"[]", b'{"../evil":1}', b'{"facts.json":-1}', b'{"facts.json":2}', b'{"facts.json":"1"}'):
        with pytest.raises(BlobCorrupt):
            Index.of(told, ())
    index, data = await made.index(ref), run.blobs.path(ref).read_bytes()
    swapped = Index(index.sizes, (index.pieces[1], index.pieces[0], *index.pieces[2:]))
    with pytest.raises(BlobCorrupt, match="not of this task"):
        await made.bring(swapped, [next(name for name in index.sizes if "adapter" in name)], tmp_path / "no")
    assert not [path for path in (tmp_path / "no").rglob("*") if path.is_file() and path.suffix != ".fresh"]
    bent = [data[:30], b"rubbish", data[:-1], data.replace(index.pieces[0].value, index.pieces[1].value), b"",
            run_backup.MAGIC + b"\xff" * 40]  # fmt: skip
    for wrong in bent:
        with pytest.raises(BlobCorrupt):
            await made.index(await run.blobs.put(wrong))
    for other in (RunBackup(run.blobs, TASK, bytes(32)), RunBackup(run.blobs, TaskId(keccak256(b"another")), KEY)):
        with pytest.raises(BlobCorrupt):
            await other.index(ref)


async def test_a_training_that_is_too_large_has_no_backup(tmp_path: Path) -> None:
    run = await train(tmp_path / "run", steps=10)
    made = RunBackup(run.blobs, TASK, KEY)
    assert await made.store(run.own.trace.folder, trace_files(run.own.trace), most_bytes=100) is None


async def test_a_lost_disk_brings_back_what_an_audit_asks_for_and_no_more(tmp_path: Path) -> None:
    run = await train(tmp_path / "run", steps=8, checkpoint_every=1)
    own = run.own
    secrets = TraceSecrets(bytes(range(32)))
    made = RunBackup(run.blobs, RUN_TASK, secrets.backup_key(RUN_TASK))
    copy = await made.store(own.trace.folder, trace_files(own.trace), most_bytes=1 << 30)
    entry = Entry(RUN_TASK, run.assignment.filing.terms, 0, 0, run.assignment.spec,
                    result=run.result.model_copy(update={"trace_backup": copy}),
                    trace_root=trace_root(own.tree), secret=own.binding.secret)  # fmt: skip
    lost = tmp_path / "lost"
    bound = own.binding
    traces = OwnTraces(None, run.blobs, lambda _: lost, secrets, chain_id=bound.chain_id, board=bound.board,  # type: ignore[arg-type]
                       node=bound.node)  # fmt: skip
    back = await traces.read_run(entry)
    assert back is not None
    assert back.tree == own.tree
    assert not list(lost.glob("checkpoint-*"))
    starts = own.inputs(run.assignment.challenge)
    await traces.bring(back, starts)
    assert len(list(lost.glob("checkpoint-*"))) == sum(slot.kind is LeafKind.CHECKPOINT for slot in starts)
    opened = await back.encoded(starts, starts, run.handed)
    assert opened == await own.encoded(starts, starts, run.handed)
    await traces.bring(back, own.trace.layout.slots())
    assert not back.absent(own.trace.layout.slots())
    index = await made.index(copy) if copy is not None else None
    assert index is not None
    (lost / "checkpoint-0000.safetensors").unlink()
    run.blobs.remove(index.of_file("checkpoint-0000.safetensors")[0])
    with pytest.raises(ExecutorCrashed, match="no backup of it"):
        await traces.bring(back, own.trace.layout.slots())
    with pytest.raises(ExecutorCrashed, match="not here any more"):
        await back.leaf(Slot(LeafKind.CHECKPOINT), run.handed)


async def test_all_of_a_backup_is_offered_to_stores_that_were_away(tmp_path: Path) -> None:
    run, _, ref = await kept(tmp_path)
    remote = LocalBlobs(tmp_path / "remote")
    result = run.result.model_copy(update={"trace_backup": ref})
    await run.blobs.put(result.encode())
    outbox = Outbox(run.blobs, [remote])
    assert await outbox.offer(result)
    index = await RunBackup(remote, TASK, KEY).index(ref)
    await RunBackup(remote, TASK, KEY).bring(index, index.sizes, tmp_path / "back")
    run.blobs.remove(index.pieces[0])  # it left with the trace meanwhile
    assert await outbox.offer(result)
    run.blobs.remove(ref)
    assert await outbox.offer(result)
