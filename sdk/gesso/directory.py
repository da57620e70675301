"""What is on the network: listings, tasks, nodes. A relay answers fast; the chain has the last word, or the only one.

Whatever a relay says about a task's terms or a listing is checked: terms hash to the task id, listings are read again
from the chain. What nodes offer is gossip and only ever shapes a quote.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import anyio
import httpx

from gesso.answers import json_of
from gesso.chain.chain import Chain
from gesso.chain.events import ContractEvent
from gesso.chain.records import Listing
from gesso.chain.wallet import signer_of
from gesso.market.facts import MarketFacts
from gesso.market.info import Stats
from gesso.market.search import MAX_RESULTS, Found, Wanted, descendants, search_facts
from gesso.submitted import FoundTask, Submitted, history
from gesso_protocol.encoding import canonical
from gesso_protocol.errors import ChainReverted, EncodingInvalid, GessoError, Unreachable, UsageError
from gesso_protocol.ids import Address, BlobRef, ListingId, TaskId
from gesso_protocol.lifecycle import TaskState
from gesso_protocol.messages import NodeAdvert
from gesso_protocol.money import MAX_LINEAGE, Wei, format_amount
from gesso_protocol.policy import Offer
from gesso_protocol.training.checkpoint import KeptCheckpoint

MAX_REPLY_BYTES = 4 * 1024 * 1024
MAX_LISTINGS = 10_000
MAX_EVENTS = 200_000
"""Of the chain's log, for one question that no relay answers."""
MAX_WITHDRAWN = 50
"""How many withdrawn versions of a name are passed over for an older one that is not."""
_REF = re.compile(r"(?P<name>[^@\s]{1,128})(?:@(?P<version>[0-9]{1,9}))?")


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One line of a task list. `fee` is in base units."""

    task: TaskId
    state: str
    requester: Address
    node: Address | None
    fee: Wei
    submitted_at: int | None = None
    """By the chain's clock; None where no relay remembers."""

    def document(self) -> dict[str, Any]:
        """For printing; money in whole tokens."""
        return {
            "task": str(self.task),
            "state": self.state,
            "node": None if self.node is None else str(self.node),
            "fee": format_amount(self.fee),
            "requester": str(self.requester),
            "submitted_at": self.submitted_at,
        }


class LogTooLong(Unreachable):
    """The chain has more events than are read to answer one question."""

    code = "log-too-long"
    default_message = "the chain's log is too long to be read through"
    default_hint = "a relay has it indexed: name one in the network file, or in GESSO_RELAY_URL"


class Directory:
    """Questions about the network, answered from the relay where it helps and from the chain otherwise."""

    def __init__(self, chain: Chain, chain_id: int, board: Address, relay: httpx.AsyncClient | None) -> None:
        self._chain = chain
        self._chain_id = chain_id
        self._board = board
        self._relay = relay
        self._submitted = Submitted(chain, chain_id, board, self._ask)
        self._listings: dict[str, Listing] = {}
        self._by_id: dict[ListingId, Listing] = {}

    async def listings(self) -> list[Listing]:
        """Everything that may be used in new tasks, oldest first; of more than 10,000 the newest, as whoever fills the
        market would hide all that comes after."""
        count = await self._chain.listing_count()
        first = max(1, count - MAX_LISTINGS + 1)
        found = [await self._chain.listing(ListingId(number)) for number in range(first, count + 1)]
        return [listing for listing in found if not listing.yanked]

    async def listing(self, ref: str) -> Listing:
        """By NAME@VERSION, or NAME for the newest that is not withdrawn. Raises UsageError when there is none."""
        if ref in self._listings:
            return self._listings[ref]
        parts = _REF.fullmatch(ref)
        if parts is None:
            raise UsageError(f"{ref!r} is not a model name", hint="write NAME@VERSION, for example gesso-tiny@1")
        name, pinned = parts["name"], parts["version"]
        if pinned:
            listing = await self._version(ref, name, int(pinned))
            self._listings[ref] = listing
            return listing
        newest = await self._chain.latest_version(name)
        for version in range(newest, max(0, newest - MAX_WITHDRAWN), -1):
            listing = await self._version(ref, name, version)
            if not listing.yanked:
                return listing
        return await self._version(ref, name, newest)

    async def usable(self, ref: str) -> Listing:
        """The same, as the chain has it now, for a new use of it. Raises UsageError for one that was withdrawn."""
        known = self._listings.pop(ref, None)
        if known is None:
            listing = await self.listing(ref)
        else:
            listing = self._listings[ref] = await self._chain.listing(known.id)
        if listing.yanked:
            raise UsageError(
                f"{listing.name}@{listing.version} was withdrawn by its publisher",
                hint=f"tasks under way are not touched; see what else there is: gesso model search {listing.name}",
            )
        return listing

    async def lineage(self, listing: Listing) -> tuple[Listing, ...]:
        """A listing and its parents, as on chain: itself first, the base last."""
        found = [listing]
        while found[-1].parent is not None and len(found) < MAX_LINEAGE:
            found.append(await self.by_id(found[-1].parent))
        return tuple(found)

    async def by_id(self, number: ListingId) -> Listing:
        """By its number; remembered, so only what never changes of it may be relied on."""
        if number not in self._by_id:
            self._by_id[number] = await self._chain.listing(number)
        return self._by_id[number]

    async def _version(self, ref: str, name: str, version: int) -> Listing:
        number = await self._chain.listing_id(name, version) if version else None
        if number is None:
            raise UsageError(f"no model {ref!r} is listed on this network", hint="see what is: gesso model ls")
        return await self._chain.listing(number)

    async def search(self, wanted: Wanted) -> list[Found]:
        """Listings for new use. A relay's hits are read again from the chain; its figures are its word."""
        reply = await self._ask("/v1/models", wanted.query())
        rows = _rows(reply, "models") if isinstance(reply, dict) else None
        if rows is None or not all("uses" in row for row in rows):
            return search_facts(await self.market_facts(), wanted)
        found: dict[int, Found] = {}
        problems: list[GessoError] = []

        async def look(at: int, row: dict[str, Any]) -> None:
            try:
                hit = await self._hit(row)
            except GessoError as error:
                problems.append(error)
            else:
                if hit is not None and wanted.shows(hit.listing):
                    found[at] = hit

        async with anyio.create_task_group() as group:
            for at, row in enumerate(rows[: wanted.limit]):
                group.start_soon(look, at, row)
        if problems:
            raise problems[0]  # the chain is away: as itself, not in a group
        return [found[at] for at in sorted(found)]

    async def made_from(self, listing: Listing) -> list[Listing]:
        """Listings for new use that descend from this one, by the log; where that is too long, those of them that a
        relay finds."""
        try:
            return descendants(await self.market_facts(), listing.id)
        except LogTooLong:
            root = (await self.lineage(listing))[-1]
            found = [one.listing for one in await self.search(Wanted(base=root.id, limit=MAX_RESULTS))]
        return [one for one in found if listing.id in [above.id for above in (await self.lineage(one))[1:]]]

    async def stats(self, listing: Listing) -> Stats:
        """Uses and income. What a relay counts is handed on, as its word, where its income is the chain's: one that is
        behind is passed over for the log. Uses that earned nothing are nowhere but in its word and the log."""
        income = await self._chain.income_of(listing.id)
        told = _stats(await self._ask(f"/v1/models/{int(listing.id)}", {}))
        if told is not None and (told.earned == income.earned if income.whole else told.earned >= income.earned):
            return told
        try:
            return Stats.of((await self.market_facts()).tally(listing.id))
        except LogTooLong:
            return Stats(None, income.earned)

    async def market_facts(self) -> MarketFacts:
        """The marketplace by the chain's log alone. Raises LogTooLong."""
        facts = MarketFacts()
        seen = 0
        async for event in self.history():
            facts.take(event)
            seen += 1
            if seen > MAX_EVENTS:
                raise LogTooLong
        return facts

    async def _hit(self, row: dict[str, Any]) -> Found | None:
        try:
            listing = await self._chain.listing(ListingId.validate(row["id"]))
            shares = await self._chain.royalties(listing.id)
            uses, earned = int(row["uses"]), Wei.validate(str(row.get("earned", "0")))
            summary = str(row.get("summary") or "")[:200]
        except (KeyError, TypeError, ValueError, ChainReverted):
            return None
        return Found(listing, sum(share.bps for share in shares), uses, earned, summary)

    async def offers(self) -> dict[Address, Offer] | None:
        """What live nodes say that they do, by wallet; None when nobody could be asked."""
        reply = await self._ask("/v1/nodes", {"state": "active"})
        if not isinstance(reply, dict):
            return None
        found = {}
        for row in _rows(reply, "nodes"):
            if row.get("online") is True:
                try:
                    advert = NodeAdvert.decode(canonical(row["advert"]))
                except (KeyError, EncodingInvalid):
                    continue
                found[advert.wallet] = advert.offer
        return found

    async def at_hand(self, manifest: BlobRef) -> bool:
        """Whether a live node says that it has a model, or nobody could be asked: no reason to refuse it then."""
        offers = await self.offers()
        return offers is None or any(manifest in offer.models for offer in offers.values())

    async def tasks(self, *, requester: Address | None, state: str | None, limit: int) -> list[TaskRow]:
        """Newest first. Raises UsageError for an unknown state."""
        if state is not None and state.upper() not in TaskState.__members__:
            raise UsageError(
                f"{state!r} is not a state", hint="submitted, claimed, committed, settled, cancelled or expired"
            )
        query = {"limit": str(limit)}
        query |= {} if requester is None else {"requester": str(requester)}
        query |= {} if state is None else {"state": state}
        reply = await self._ask("/v1/tasks", query)
        if isinstance(reply, dict):
            return [row for entry in _rows(reply, "tasks") if (row := _task_row(entry)) is not None]
        return await self._tasks_on_chain(requester, state, limit)

    async def find(self, prefix: str, mine: Address | None = None) -> FoundTask:
        """The one task whose id begins so, those that `mine` pays for first. Raises UsageError when there is none or
        more than one."""
        return await self._submitted.find(prefix, mine)

    async def of_nonce(self, requester: Address, nonce: int, *, after: TaskId | None = None) -> FoundTask | None:
        """The first task that a wallet has submitted with this nonce; `after`: not before that task. Raises
        Unreachable, ChainError."""
        return await self._submitted.of_nonce(requester, nonce, after)

    async def fees_of(self, requester: Address, nonce: int) -> list[Wei]:
        """Fees of the tasks that a relay remembers of a wallet with this nonce; a hint, and none without one."""
        return await self._submitted.fees_of(requester, nonce)

    async def result_of(self, task: TaskId) -> BlobRef | None:
        """Where a task's result manifest is said to be; None when nobody says."""
        reply = await self._ask(f"/v1/tasks/{task}", {})
        result = reply.get("result") if isinstance(reply, dict) else None
        hint = result.get("manifest") if isinstance(result, dict) else None
        try:
            return BlobRef.parse(hint) if isinstance(hint, str) else None
        except EncodingInvalid:
            return None

    async def checkpoint_of(self, task: TaskId, node: Address) -> KeptCheckpoint | None:
        """Where a lost node's training can go on, signed by it, as a relay remembers; None when nobody knows."""
        reply = await self._ask(f"/v1/tasks/{task}", {})
        kept = reply.get("checkpoint") if isinstance(reply, dict) else None
        if not isinstance(kept, dict) or kept.get("node") != str(node):
            return None
        fields = {name: kept.get(name) for name in KeptCheckpoint.model_fields}
        try:
            found = KeptCheckpoint.decode(canonical(fields))
        except EncodingInvalid:
            return None
        digest = found.digest(self._chain_id, self._board, task)
        return found if signer_of(digest, bytes.fromhex(found.signature)) == node else None

    async def _tasks_on_chain(self, requester: Address | None, state: str | None, limit: int) -> list[TaskRow]:
        rows: list[TaskRow] = []
        mine = [entry async for entry in self._submitted.all() if requester in (None, entry.terms.requester)]
        for entry in reversed(mine):
            record = await self._chain.task(entry.task)
            name = record.state.name.lower()
            if state in (None, name):
                rows.append(TaskRow(entry.task, name, entry.terms.requester, record.node, entry.terms.fee))
            if len(rows) >= limit:
                break
        return rows

    def history(self) -> AsyncIterator[ContractEvent]:
        """Every event of the network's contracts, from the first block on."""
        return history(self._chain)

    async def _ask(self, path: str, query: dict[str, str]) -> Any:
        """The relay's answer, or None when there is no relay or it does not answer sensibly."""
        if self._relay is None:
            return None
        try:
            async with self._relay.stream("GET", path, params=query) as reply:
                if reply.status_code != 200:
                    return None
                return await json_of(reply, most=MAX_REPLY_BYTES)
        except (httpx.HTTPError, ValueError, GessoError):
            return None


def _rows(reply: dict[str, Any], key: str) -> list[dict[str, Any]]:
    rows = reply.get(key, [])
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _stats(reply: Any) -> Stats | None:
    try:
        uses, earned = reply["uses"], Wei.validate(str(reply.get("earned", "0")))
    except (KeyError, TypeError, ValueError, AttributeError, EncodingInvalid):
        return None
    return Stats(uses, earned, "relay") if isinstance(uses, int) and 0 <= uses < 2**63 else None


def _task_row(entry: dict[str, Any]) -> TaskRow | None:
    try:
        node, at = entry.get("node"), entry.get("submitted_at")
        return TaskRow(
            task=TaskId.parse(str(entry["id"])),
            state=str(entry["state"])[:16],
            requester=Address(str(entry["requester"])),
            node=None if node is None else Address(str(node)),
            fee=Wei.validate(entry["fee"]),
            submitted_at=at if isinstance(at, int) and 0 <= at < 2**37 else None,
        )
    except (KeyError, EncodingInvalid):
        return None
