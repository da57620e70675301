"""Where a training can go on, for a requester that was away: signed by the node that has the task, or not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gesso.chain.wallet import Wallet
from gesso_protocol.ids import Address, BlobRef
from gesso_protocol.messages import ProgressEvent
from gesso_protocol.training.checkpoint import KeptCheckpoint, typed_checkpoint
from gesso_relay.checkpoints import _MAX_TASKS, Checkpoints

from .fakechain import BOARD, CHAIN_ID, FakeChain, claimed, submitted, task_of
from .running import running

pytestmark = pytest.mark.anyio
OURS, OTHER = Wallet.from_key(b"\x11" * 32), Wallet.from_key(b"\x12" * 32)
STATE = BlobRef(b"\x05" * 32)
SEED = b"\x06" * 32


def told(
    step: int,
    *,
    nonce: int = 1,
    by: Wallet = OURS,
    name: Address | None = None,
    board: Address = BOARD,
    seed: bytes = SEED,
) -> ProgressEvent:
    document = typed_checkpoint(CHAIN_ID, board, task_of(nonce), STATE, step, 9, seed)
    kept = KeptCheckpoint(state=STATE, step=step, size=9, seed=SEED.hex(), signature=by.sign_typed(document).hex())
    return ProgressEvent(task=task_of(nonce), node=name or by.address, sequence=step, stage="executing", step=step,
                         total=60, checkpoint=kept)  # fmt: skip


async def test_the_newest_word_of_the_claimant_is_kept(tmp_path: Path) -> None:
    chain = FakeChain()
    chain.mine([submitted(1), claimed(1, node=OURS.address)])
    path = f"/v1/progress/{task_of(1)}"
    async with running(tmp_path, chain) as relay:
        await relay.indexed()
        assert (await relay.json(f"/v1/tasks/{task_of(1)}"))["checkpoint"] is None
        bad = [
            told(20, by=OTHER, name=OURS.address),
            told(20, board=OURS.address),
            told(20, seed=bytes(32)),
            told(20, by=OTHER),
        ]
        refused = [await relay.client.post(path, content=event.encode()) for event in bad]
        taken = [await relay.client.post(path, content=told(step).encode()) for step in (20, 40)]
        found = (await relay.json(f"/v1/tasks/{task_of(1)}"))["checkpoint"]
    assert [reply.status_code for reply in (*refused, *taken)] == [400, 400, 400, 400, 202, 202]
    assert (found["node"], found["step"], found["total"], found["state"]) == (str(OURS.address), 40, 60, str(STATE))
    assert found["seed"] == SEED.hex()


def document(nonce: int = 1, node: Wallet | None = OURS) -> dict[str, Any]:
    return {"id": str(task_of(nonce)), "node": None if node is None else str(node.address)}


def test_an_older_word_that_is_told_again_changes_nothing() -> None:
    kept = Checkpoints(CHAIN_ID, BOARD)
    for step in (20, 40, 20):
        kept.note(told(step), document())
    found = kept.of(document())
    assert found is not None
    assert found["step"] == 40


def test_strangers_are_not_remembered_and_wash_nobody_out() -> None:
    kept = Checkpoints(CHAIN_ID, BOARD)
    kept.note(told(20), document())
    kept.note(told(40, by=OTHER), document())
    for known in (None, document(2, None)):
        kept.note(told(20, nonce=2, by=OTHER), known)
    assert list(kept._kept) == [str(task_of(1))]
    assert kept.of(document()) is not None
    assert kept.of(document(node=OTHER)) is None


def test_who_claims_after_a_reorganisation_is_heard() -> None:
    kept = Checkpoints(CHAIN_ID, BOARD)
    kept.note(told(40), document())
    kept.note(told(20, by=OTHER), document(node=OTHER))
    assert kept.of(document()) is None
    assert (kept.of(document(node=OTHER)) or {})["step"] == 20


def test_memory_is_bounded() -> None:
    kept = Checkpoints(CHAIN_ID, BOARD)
    kept._kept.update({f"0x{number}": (1, {"node": ""}) for number in range(_MAX_TASKS)})
    kept.note(told(20, nonce=2), document(2))
    assert len(kept._kept) == _MAX_TASKS
    assert kept.of(document(2)) is not None
    assert kept.of(document(2, None)) is None
