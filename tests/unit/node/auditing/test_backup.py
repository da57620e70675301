"""The encrypted copy of a trace: whole with the right wallet, noise with any other."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso.blobs import LocalBlobs
from gesso.chain.wallet import Wallet
from gesso_node import backup
from gesso_node.backup import TraceSecrets
from gesso_node.opened_run import trace_files
from gesso_node.trace import BYTES_FILE, INDEX_FILE, RecordedTrace
from gesso_protocol.errors import BlobCorrupt
from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import BlobRef, TaskId

from .runs import train
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


async def test_a_training_comes_back_file_by_file_and_names_no_other_paths(tmp_path: Path) -> None:
    run = await train(tmp_path / "run", steps=10)
    folder, names = run.own.trace.folder, trace_files(run.own.trace)
    ref = await backup.store_run(run.blobs, folder, names, TASK, KEY)
    assert ref is not None
    assert await run.blobs.get(ref, max_bytes=10**7) != b""
    await backup.restore_run(run.blobs, ref, tmp_path / "back", TASK, KEY)
    for name in names:
        assert (tmp_path / "back" / name).read_bytes() == (folder / name).read_bytes()
    for index in (b"{", b"[]", b'{"../evil":1}', b'{"facts.json":-1}', b'{"facts.json":2}', b'{"facts.json":"1"}'):
        bad = await run.blobs.put(backup._encrypted(index, b"x", TASK, KEY))
        with pytest.raises(BlobCorrupt):
            await backup.restore_run(run.blobs, bad, tmp_path / "no", TASK, KEY)
    assert not (tmp_path / "no").exists()
    with pytest.raises(BlobCorrupt):
        await backup.restore_run(run.blobs, ref, tmp_path / "no", TASK, bytes(32))


async def test_a_training_that_is_too_large_has_no_backup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = await train(tmp_path / "run", steps=10)
    monkeypatch.setattr(backup, "MAX_RUN_BACKUP_BYTES", 100)
    assert await backup.store_run(run.blobs, run.own.trace.folder, trace_files(run.own.trace), TASK, KEY) is None
