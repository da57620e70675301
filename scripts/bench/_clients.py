"""One process of the throughput bench: some nodes and a requester on one connection. Talks JSON lines on its pipes.

It is told its wallets, joins, says that it is ready, and does what it is told to: transfers of tokens, each followed
until it is mined, or its share of the tasks, until the chain's log shows every task of every process settled. Run by
`throughput`, not by hand.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import _venv  # noqa: F401 - puts the virtual environment in charge
from gesso.chain import Chain, ChainSettings, Cursor, Wallet
from gesso.chain import abi as abi_module
from gesso.chain import post as post_module
from gesso.chain.events import EventDecoder, TaskClaimed, TaskCommitted, TaskSettled, TaskSubmitted
from gesso.chain.reverts import revert_name
from gesso.heap import keep_for_good
from gesso_contracts import DEV_TOKEN
from gesso_protocol.draw import Draw
from gesso_protocol.errors import GessoError
from gesso_protocol.ids import Address, BlobRef, Root, TaskId
from gesso_protocol.money import Wei
from gesso_protocol.sortition import seed_bytes
from gesso_protocol.terms import Terms

ONE = 10**18
FEE = Wei(ONE // 100)
SUBMITTING_AT_ONCE = 256
CLAIMING_AT_ONCE = 4
"""Tasks of others that a node takes over at once; those that it leads are all claimed as they come."""
SETTLE_BATCH = 50
SETTLE_AFTER_BLOCKS = 2
"""A payment that is due waits so many blocks for others to share its transaction with."""
POLLS_A_BLOCK = 3
LIMIT_S = 300.0


STAGES = ("submitted", "claimed", "committed", "settled")


class Spent:
    """Processor seconds inside functions that do not wait."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    def watch(self, name: str, owner: Any, attribute: str) -> None:
        plain: Callable[..., Any] = getattr(owner, attribute)

        def timed(*arguments: Any, **named: Any) -> Any:
            begun = time.thread_time()
            try:
                return plain(*arguments, **named)
            finally:
                self.seconds[name] += time.thread_time() - begun

        setattr(owner, attribute, timed)


@dataclass
class Tally:
    """What the chain's log says."""

    submitted: set[TaskId] = field(default_factory=set)
    claims: Counter[TaskId] = field(default_factory=Counter)
    settled: Counter[TaskId] = field(default_factory=Counter)
    at: dict[str, list[float]] = field(default_factory=lambda: {stage: [] for stage in STAGES})
    """When the log showed each task at each stage."""
    lost_races: int = 0


@dataclass(frozen=True)
class Turn:
    """A task that we were drawn for, with the whole draw and who is known to take part."""

    event: TaskSubmitted
    draw: Draw
    lively: frozenset[Address]


class Draws:
    """Among nodes that all take part."""

    def __init__(self, weights: dict[Address, int], total: int, step_s: int) -> None:
        self.lively = frozenset(weights)
        self._weights, self._total, self._step_s = weights, total, step_s

    def of(self, event: TaskSubmitted) -> Draw:
        return Draw.of(seed_bytes(event.seed), event.task, self._weights, self._total, self._step_s)


class BenchNode:
    """A worker without an executor: its result is ready the moment its claim is mined."""

    def __init__(self, chain: Chain, tally: Tally, group: asyncio.TaskGroup, hold_back: int) -> None:
        """`hold_back`: blocks that it waits longer than it must where another node comes first."""
        self.chain = chain
        self._tally = tally
        self._group = group
        self._hold_back = hold_back
        self._turns: list[tuple[int, Turn]] = []
        self._ripe: list[tuple[int, Terms]] = []
        self._others: deque[Turn] = deque()
        self._claiming = 0
        self._now = 0

    def heard(self, event: TaskSubmitted, draw: Draw, lively: frozenset[Address], now: int) -> None:
        """Who comes first has as long from when we hear of it late: it may have heard as late as we did."""
        wait_s = draw.polite_from(self.chain.address, lively)
        if wait_s is not None:
            first = draw.places[0].node == self.chain.address
            at = event.at + wait_s if first else max(event.at + wait_s, now) + self._hold_back
            self._turns.append((at, Turn(event, draw, lively)))

    def act(self, now: int, challenge_s: int) -> None:
        """Claim everything whose time has come and that nobody has; pay out what is due, many at once."""
        self._now = now
        free = [(at, turn) for at, turn in self._turns if not self._tally.claims[turn.event.task]]
        self._turns = [(at, turn) for at, turn in free if at > now]
        for at, turn in free:
            if at <= now and turn.draw.leads(self.chain.address, turn.lively, now - turn.event.at):
                self._group.create_task(self._lead(turn))
            elif at <= now:
                self._others.append(turn)
        self._take_over()
        due = [entry for entry in self._ripe if entry[0] + challenge_s <= now]
        if len(due) >= SETTLE_BATCH or (due and now >= due[0][0] + challenge_s + SETTLE_AFTER_BLOCKS):
            batch = due[:SETTLE_BATCH]
            taken = set(map(id, batch))  # comparing terms would cost more than the settle
            self._ripe = [entry for entry in self._ripe if id(entry) not in taken]
            self._group.create_task(self._settle(batch))

    async def _lead(self, turn: Turn) -> None:
        if await self._claim_and_commit(turn.event):
            self._ripe.append((self._now, turn.event.terms))

    def _take_over(self) -> None:
        """Tasks that others did not take in their turn, a few at a time."""
        while self._others and self._claiming < CLAIMING_AT_ONCE:
            turn = self._others.popleft()
            if not self._tally.claims[turn.event.task]:
                self._claiming += 1
                self._group.create_task(self._follow(turn))

    async def _follow(self, turn: Turn) -> None:
        try:
            if await self._claim_then_commit(turn.event):
                self._ripe.append((self._now, turn.event.terms))
        finally:
            self._claiming -= 1
        self._take_over()

    async def _claim_then_commit(self, event: TaskSubmitted) -> bool:
        """For a task that somebody before us did not take. False after a lost race."""
        try:
            await self.chain.claim(event.terms)
        except GessoError as error:
            return self._lost(error)
        await self.chain.commit(event.terms, Root(event.task.value), Root(bytes(32)))
        return True

    async def _claim_and_commit(self, event: TaskSubmitted) -> bool:
        """For a task that we lead: the commit follows its claim into the same block. False after a lost race."""
        terms, roots = event.terms, (Root(event.task.value), Root(bytes(32)))
        commits: list[asyncio.Task[Any]] = []

        def follow(_: str) -> None:
            commits.append(asyncio.create_task(self.chain.commit(terms, *roots, behind_claim=True)))

        made = await asyncio.gather(self.chain.claim(terms, alone=True, on_sent=follow), return_exceptions=True)
        made += await asyncio.gather(*commits, return_exceptions=True)
        failed = [error for error in made if isinstance(error, BaseException)]
        return all(self._lost(error) for error in failed[:1])

    def _lost(self, error: BaseException) -> bool:
        if not isinstance(error, GessoError) or revert_name(error) != "UnexpectedState":
            raise error
        self._tally.lost_races += 1
        return False

    async def _settle(self, batch: list[tuple[int, Terms]]) -> None:
        receipt = await self.chain.settle([terms for _, terms in batch])
        paid = set(receipt.settled)
        self._ripe.extend(entry for entry in batch if self.chain.task_id(entry[1]) not in paid)


async def work(told: dict[str, Any]) -> None:
    """Join, wait for the start, work until everything is settled, report."""
    settings = ChainSettings.model_validate(told["settings"])
    tasks, everything = told["tasks"], told["all_tasks"]
    async with Chain.open(settings, Wallet.from_key(told["requester"])) as client, asyncio.TaskGroup() as group:
        await client.deposit(Wei(FEE * tasks))
        chains = [client.beside(Wallet.from_key(key)) for key in told["nodes"]]
        for place, chain in enumerate(chains):
            await chain.register_node(f"bench-{told['process']}-{place}".encode(), bytes(32), Wei(100 * ONE))
        params = await client.params()
        spent, tally = Spent(), Tally()
        watch(spent)
        keep_for_good()
        say({"ready": True})
        while count := (await hear())["transfers"]:
            say(await transfers(client, told, count))
        total = await client.total_weight()
        weights = {Address(node): 1 for node in told["everybody"]}
        nodes = [BenchNode(chain, tally, group, told["hold_back"]) for chain in chains]
        cursor = Cursor.before(await client.block_number() + 1)
        spent.seconds.clear()
        begun, begun_cpu_s = time.monotonic(), cpu_s()
        group.create_task(submit_all(client, told["process"], tasks, group))
        while len(tally.settled) < everything and time.monotonic() - begun < LIMIT_S:
            page = await client.read_page(cursor)
            if page is not None:
                cursor, now = page.cursor, await client.now()
                note(page.events, tally, nodes, Draws(weights, total, params.sortition_step_s), now)
                for node in nodes:
                    node.act(now, params.challenge_window_s)
            else:
                await asyncio.sleep(told["block_s"] / POLLS_A_BLOCK)
        ended, ended_cpu_s = time.monotonic(), cpu_s()
    say(
        {
            "begun": begun,
            "ended": ended,
            "cpu_s": ended_cpu_s - begun_cpu_s,
            "spent": dict(spent.seconds),
            "submitted": len(tally.submitted),
            "settled": len(tally.settled),
            "doubled": sum(n > 1 for n in tally.claims.values()) + sum(n > 1 for n in tally.settled.values()),
            "at": tally.at,
            "lost_races": tally.lost_races,
        }
    )


async def transfers(client: Chain, told: dict[str, Any], count: int) -> dict[str, Any]:
    """So many from each wallet, all asked for at once and each awaited, as a client does that wants to know."""
    data = abi_module.function(DEV_TOKEN, "transfer").encode(str(client.address), 1)
    senders = [client.connection.sender(Wallet.from_key(key)) for key in (told["requester"], *told["nodes"])]
    token = client.settings.contracts.token
    await asyncio.gather(*(sender.send(token, data, kind="transfer") for sender in senders))
    begun, begun_cpu_s = time.monotonic(), cpu_s()
    await asyncio.gather(*(sender.send(token, data, kind="transfer") for sender in senders for _ in range(count)))
    return {"begun": begun, "ended": time.monotonic(), "cpu_s": cpu_s() - begun_cpu_s, "sent": count * len(senders)}


async def submit_all(client: Chain, process: int, tasks: int, group: asyncio.TaskGroup) -> None:
    """All of this process's tasks, so many on their way at once."""
    gate = asyncio.Semaphore(SUBMITTING_AT_ONCE)

    async def submit(terms: Terms) -> None:
        try:
            await client.submit(terms)
        finally:
            gate.release()

    for number in range(tasks):
        await gate.acquire()
        terms = Terms(
            requester=client.address,
            fee=FEE,
            spec=BlobRef.of(b"bench"),
            claim_window_s=3600,
            commit_window_s=3600,
            nonce=process * 10**9 + number,
        )
        group.create_task(submit(terms))


def note(events: Any, tally: Tally, nodes: list[BenchNode], draws: Draws, now: int) -> None:
    """Take a page of the log; every node of this process hears of every task."""
    for event in events:
        if isinstance(event, TaskSubmitted):
            tally.submitted.add(event.task)
            tally.at["submitted"].append(time.monotonic())
            draw = draws.of(event)
            for node in nodes:
                node.heard(event, draw, draws.lively, now)
        elif isinstance(event, TaskClaimed):
            tally.claims[event.task] += 1
            tally.at["claimed"].append(time.monotonic())
        elif isinstance(event, TaskCommitted):
            tally.at["committed"].append(time.monotonic())
        elif isinstance(event, TaskSettled):
            tally.settled[event.task] += 1
            tally.at["settled"].append(time.monotonic())


def watch(spent: Spent) -> None:
    """Count where the processor's time goes."""
    spent.watch("signing", Wallet, "sign_transaction")
    spent.watch("decoding the log", EventDecoder, "decode")
    spent.watch("reading JSON", post_module, "from_json")
    spent.watch("encoding calls", abi_module.Function, "encode")


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def hear() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(await asyncio.to_thread(sys.stdin.readline))
    return document


def say(document: dict[str, Any]) -> None:
    print(json.dumps(document), flush=True)


if __name__ == "__main__":
    asyncio.run(work(json.loads(sys.stdin.readline())))
