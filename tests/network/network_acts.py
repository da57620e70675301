"""What the tests of whole networks do again and again."""

from __future__ import annotations

import secrets

import anyio

from gesso.chain.chain import Chain
from gesso_devnet import Devnet
from gesso_protocol.ids import BlobRef, ListingId, TaskId
from gesso_protocol.lifecycle import TaskState
from gesso_protocol.money import Wei
from gesso_protocol.terms import Terms

PATIENCE_S = 300
"""Longer than any window that is waited out here, and than a busy machine takes beside it."""


async def raw_terms(net: Devnet, *, claim_window_s: int = 60, commit_window_s: int = 60) -> Terms:
    """Terms that the board takes and that every node refuses: nobody can read their spec."""
    return Terms(
        requester=net.cast.submitter.address,
        fee=Wei((await net.chain.params()).min_fee),
        spec=BlobRef(secrets.token_bytes(32)),
        model=ListingId(1),
        claim_window_s=claim_window_s,
        commit_window_s=commit_window_s,
        nonce=secrets.randbits(64),
    )


async def submit_raw(net: Devnet, terms: Terms) -> TaskId:
    """Put terms on the board past the SDK's checks."""
    async with Chain.open(net.chain_settings, net.cast.submitter) as chain:
        await chain.submit(terms)
        return chain.task_id(terms)


async def until_state(net: Devnet, task: TaskId, state: TaskState) -> None:
    """Wait until the board says so."""
    with anyio.fail_after(PATIENCE_S):
        while (await net.chain.task(task)).state is not state:  # noqa: ASYNC110 - the chain tells only who asks
            await anyio.sleep(0.05)
