"""Events of a make-believe chain, in the index's own words."""

from __future__ import annotations

from gesso_relay.index.entries import Document, Entry, Subject

ALICE = "0x" + "A1" * 20
BOB = "0x" + "B0" * 20


def block_hash(block: int, fork: int = 0) -> str:
    return f"0x{fork:02x}{block:062x}"


def entry(
    block: int, index: int, subject: Subject, key: str, name: str, data: Document | None = None, fork: int = 0
) -> Entry:
    return Entry(
        block=block,
        block_hash=block_hash(block, fork),
        log_index=index,
        tx=f"0x{block:032x}{index:032x}",
        at=1000 + block,
        subject=subject,
        key=key,
        name=name,
        data=data or {},
    )


def task_key(number: int) -> str:
    return f"0x{number:064x}"


def submitted(
    block: int, number: int, *, index: int = 0, requester: str = ALICE, model: str = "1", fork: int = 0
) -> Entry:
    data: Document = {"requester": requester, "node": None, "model": model, "fee": "20", "spec": "b3:" + "00" * 32}
    return entry(block, index, "task", task_key(number), "submitted", data, fork)


def claimed(block: int, number: int, *, index: int = 0, node: str = BOB, fork: int = 0) -> Entry:
    return entry(block, index, "task", task_key(number), "claimed", {"node": node, "commit_by": 2000}, fork)


def settled(block: int, number: int, *, index: int = 0, node: str = BOB, fork: int = 0) -> Entry:
    return entry(block, index, "task", task_key(number), "settled", {"node": node, "paid": "18"}, fork)


def listed(
    block: int, number: int, *, index: int = 0, parent: int | None = None, name: str = "tiny", version: int = 1,
    kind: str = "base", bps: int = 100, owner: str = ALICE, fork: int = 0,
) -> Entry:  # fmt: skip
    data: Document = {
        "name": name,
        "version": version,
        "owner": owner,
        "manifest": f"b3:{number:064x}",
        "kind": kind,
        "parent": None if parent is None else str(parent),
        "royalty_bps": bps,
        "licence": "",
    }
    return entry(block, index, "model", str(number), "published", data, fork)


def bundled(block: int, number: int, *members: int, index: int = 0, fork: int = 0) -> Entry:
    return entry(block, index, "bundle", str(number), "bundled", {"members": [str(one) for one in members]}, fork)


def royalty(block: int, number: int, amount: int = 3, *, index: int = 0, fork: int = 0) -> Entry:
    return entry(block, index, "model", str(number), "royalty", {"to": ALICE, "amount": str(amount)}, fork)


def audited(block: int, number: int, turn: int, *, index: int = 0, fork: int = 0) -> Entry:
    """The event of an audit's life at this turn; turns go round."""
    data: tuple[tuple[str, Document], ...] = (
        ("audit-opened", {"auditor": BOB, "challenge": "0x07", "round": 3, "commit_by": 9}),
        ("audit-committed", {"auditor": ALICE}),
        ("audit-revealed", {"auditor": ALICE, "said": "flag", "evidence": None, "profile": "0x05", "projection": ""}),
        ("audit-closed", {"outcome": "disputed"}),
        ("dispute-opened", {"by": ALICE, "level": 0, "round": 5}),
        ("vote-committed", {"juror": BOB, "level": 0}),
        ("vote-revealed", {"juror": BOB, "level": 0, "said": "bad", "vote": 2}),
        ("juror-penalised", {"juror": BOB, "amount": "4", "reason": "incoherent"}),
    )
    name, told = data[turn % len(data)]
    return entry(block, index, "audit", task_key(number), name, told, fork)
