"""Pure: the arbiter's events about one task, in order, make the document of its audit.

An audit begins where the arbiter opens it, or with a dispute that the requester brought without one. Whose work
it is about stands in the task's events.
"""

from __future__ import annotations

from gesso_relay.index.entries import Document, Entry, Json

BEGINNINGS = ("audit-opened", "challenged", "dispute-opened")
OVER = ("passed", "void", "guilty", "innocent", "undecided", "upheld", "unheard")


def advance_audit(document: Document | None, entry: Entry) -> Document | None:
    """The document after one more event; the old one is not changed."""
    if document is None:
        if entry.name not in BEGINNINGS:
            return None
        document = _blank(entry)
    data, transactions = entry.data, document["transactions"]
    assert isinstance(transactions, list)
    document = {**document, "changed_at": entry.at, "transactions": [*transactions, entry.tx]}
    match entry.name:
        case "audit-opened":
            drawn = {name: data[name] for name in ("challenge", "round", "commit_by")}
            return {**_seat(document, "auditors", data["auditor"], 0, {}), **drawn, "state": "open"}
        case "audit-committed":
            return _seat(document, "auditors", data["auditor"], 0, {})
        case "audit-revealed":
            told = {name: data[name] for name in ("said", "evidence")}
            return {**_seat(document, "auditors", data["auditor"], 0, told), "profile": data["profile"]}
        case "audit-closed":
            return {**document, "state": data["outcome"]}
        case "challenged":
            return {**document, "challenged_by": data["requester"], "bond": data["bond"]}
        case "dispute-opened":
            return {**document, "state": "disputed", "level": data["level"], "brought_by": data["by"]}
        case "vote-committed":
            return _seat(document, "jurors", data["juror"], data["level"], {})
        case "vote-revealed":
            return _seat(document, "jurors", data["juror"], data["level"], {"said": data["said"]})
        case "dispute-tallied":
            return {**document, "tallied": data["outcome"], "appeal_by": data["appeal_by"]}
        case "appealed":
            return {**document, "appealed_by": data["by"]}
        case "dispute-executed":
            money = {name: data[name] for name in ("slashed", "burned", "to_requester", "to_pool")}
            return {**document, **money, "state": data["outcome"]}
        case "auditor-penalised":
            return _lost(document, "auditors", data["auditor"], data["amount"])
        case "juror-penalised":
            return _lost(document, "jurors", data["juror"], data["amount"])
        case _:
            return document


def seats_of(document: Document) -> list[tuple[str, str, int, str | None]]:
    """Role, account, level and word of everybody who took part."""
    found = []
    for role, name in (("auditor", "auditors"), ("juror", "jurors")):
        for seat in _seats(document, name):
            said = seat["said"]
            found.append((role, str(seat["account"]), int(str(seat["level"])), None if said is None else str(said)))
    return found


def _blank(entry: Entry) -> Document:
    return {
        "task": entry.key, "opened_at": entry.at, "node": None, "state": "disputed", "auditors": [], "jurors": [],
        "transactions": [],
    }  # fmt: skip


def _seats(document: Document, name: str) -> list[Document]:
    seats = document[name]
    assert isinstance(seats, list)
    return [seat for seat in seats if isinstance(seat, dict)]


def _seat(document: Document, name: str, account: Json, level: Json, changed: Document) -> Document:
    seats = _seats(document, name)
    if not any((seat["account"], seat["level"]) == (account, level) for seat in seats):
        seats = [*seats, {"account": account, "level": level, "said": None, "lost": "0"}]
    made: list[Json] = [
        {**seat, **changed} if (seat["account"], seat["level"]) == (account, level) else seat for seat in seats
    ]
    return {**document, name: made}


def _lost(document: Document, name: str, account: Json, amount: Json) -> Document:
    """A penalty names no level: it is for the latest seat of that account."""
    levels = [int(str(seat["level"])) for seat in _seats(document, name) if seat["account"] == account]
    if not levels:
        return document
    seat = next(seat for seat in _seats(document, name) if (seat["account"], seat["level"]) == (account, max(levels)))
    lost = str(int(str(seat["lost"])) + int(str(amount)))
    return _seat(document, name, account, max(levels), {"lost": lost})
