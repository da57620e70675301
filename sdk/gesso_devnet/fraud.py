"""A staged fraud: one node sells work that it did not do, is audited, judged and slashed; the others go on.

The cheat asks for half the price, so it gets the task; the requester asks for an audit. Everything else is the
network's own doing: who audits, which steps are run again, who judges, what it costs the cheat.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio

from gesso.audits.facts import AuditFacts, steps_text, votes_text
from gesso.chain.arbiter import BURN_ADDRESS
from gesso.chain.chain import Chain
from gesso.cli.output import Output
from gesso.client import AsyncClient
from gesso.outcome import Result
from gesso_devnet import ledger
from gesso_devnet.cheats import AGAIN, choose_cheat
from gesso_devnet.genesis import CHEAP_PRICE
from gesso_devnet.stack import StackSettings, StackState
from gesso_protocol.errors import DeadlinePassed, Unreachable
from gesso_protocol.events import Event
from gesso_protocol.ids import Address
from gesso_protocol.money import Wei, format_amount
from gesso_protocol.spec import MAX_SEED, TextToImage

HEARD_S = 60.0
WORK_S = 180
DISPUTE_S = 420.0
"""Loading a model three times on a small machine, three windows, and an appeal that nobody makes."""
TRIES = 8
"""Some cheats run most steps as they should, and the lot may draw none but these: whoever goes on is caught soon."""
FIRST_PROMPT = "a small green triangle on a yellow background"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a staged fraud ended. `moved` is what each name gained or lost, in base units."""

    result: Result
    facts: AuditFacts
    conserved: bool
    caught: bool
    unharmed: bool
    moved: dict[str, int]


async def commit_fraud(
    chain: Chain,
    client: AsyncClient,
    state: StackState,
    spec: TextToImage,
    *,
    note: Callable[[Event], None],
    say: Callable[[str], None],
) -> Verdict:
    """Order from the cheat until it is caught, and see it through to its end. Raises what `AsyncTask` raises,
    Unreachable."""
    settings = state.settings
    fee = await _cheap_fee(client, spec)
    if settings.cheat in AGAIN:
        say("first an honest task of the same node, whose trace it will sell again")
        await _sold_once(client, spec, fee)
    for again in range(TRIES):
        ordered = spec.model_copy(update={"seed": (spec.seed + again) % MAX_SEED})
        verdict = await _commit_once(chain, client, state, ordered, fee, note)
        if verdict.facts.status != "passed" or again == TRIES - 1:
            break
        say(f"not caught: {checked_text(verdict.facts)}, and these it had computed; the same is ordered once more")
    return verdict


async def _commit_once(
    chain: Chain, client: AsyncClient, state: StackState, spec: TextToImage, fee: str, note: Callable[[Event], None]
) -> Verdict:
    settings = state.settings
    cast, names = settings.cast(), name_of(settings)
    cheater = next(address for address, name in names.items() if name == settings.cheater)
    before = await ledger.take(chain, cast.addresses)
    task = await client.submit(spec, fee=fee, audit="always", commit_window_s=WORK_S)
    with anyio.move_on_after(DISPUTE_S) as scope:
        result = await task.result(until="committed", on_event=note)
        async for event in task.events():
            note(event)
        facts = await task.audit()
    if scope.cancelled_caught:
        raise DeadlinePassed(f"the dispute did not end within {DISPUTE_S:g} s", hint="see why: gesso devnet logs")
    after = await ledger.take(chain, cast.addresses)
    moved = ledger.changes(before, after)
    honest = [wallet.address for wallet in cast.nodes if wallet.address != cheater]
    return Verdict(
        result=result,
        facts=facts,
        conserved=ledger.conserved(before, after) and await ledger.backed(chain, after),
        caught=facts.status == "guilty" and after[cheater].stake < before[cheater].stake,
        unharmed=all(after[node].total >= before[node].total for node in honest),
        moved={names.get(account, role_of(state, account)): change for account, change in moved.items()},
    )


def name_of(settings: StackSettings) -> dict[Address, str]:
    """Wallets of the nodes and watchers to their names."""
    wallets = [wallet.address for wallet in settings.cast().nodes]
    return dict(zip(wallets, settings.names, strict=True))


def audit_document(state: StackState, verdict: Verdict) -> dict[str, Any]:
    """The `audit` object of `--json`; money in base units as text, what moved in whole tokens."""
    return {
        **verdict.facts.model_dump(mode="json"),
        "cheat": state.settings.cheat,
        "cheater": state.settings.cheater,
        "caught": verdict.caught,
        "honest_unharmed": verdict.unharmed,
        "moved": {name: signed(change) for name, change in verdict.moved.items()},
    }


def print_verdict(out: Output, state: StackState, verdict: Verdict) -> None:
    """Who did what, who lost what, and whether the books balance."""
    facts, names = verdict.facts, name_of(state.settings)
    cheat = state.settings.cheat or ""
    out.say("")
    out.say(f"cheat     {state.settings.cheater}: {cheat}, {choose_cheat(cheat)}")
    out.say("picture   delivered all the same, and not to be trusted:")
    out.say(f"          {verdict.result.image.blob}")
    out.say(f"audit     {checked_text(facts)}")
    for auditor in facts.auditors:
        lost = f", loses {format_amount(auditor.lost)}" if auditor.lost else ""
        out.say(f"          {names.get(auditor.auditor, auditor.auditor.short):<10} {auditor.said or 'silent'}{lost}")
    for juror in facts.jurors:
        lost = f", loses {format_amount(juror.lost)}" if juror.lost else ""
        who = names.get(juror.juror, juror.juror.short)
        out.say(f"juror     {who:<10} {juror.found or 'silent'}{lost}")
    status = facts.status.upper()
    said = out.alarm(status) if verdict.caught else status
    why = "the steps that were drawn are right" if facts.status == "passed" else votes_text(facts)
    out.say(f"verdict   {said}: {why} {out.mark(verdict.caught)}")
    if facts.slashed:
        parts = {"burned": facts.burned, "requester": facts.to_requester, "audit pool": facts.to_pool}
        where = " + ".join(f"{format_amount(part)} {name}" for name, part in parts.items())
        out.say(f"slashed   {format_amount(facts.slashed)} = {where}")
    if facts.refund is not None:
        out.say(f"refund    {format_amount(facts.refund)} to the requester")
    for name, change in sorted(verdict.moved.items(), key=lambda entry: -entry[1]):
        out.say(f"moved     {name:<10} {signed(change)}")
    harm = "no other node lost anything" if verdict.unharmed else "AN HONEST NODE LOST"
    out.say(f"honest    {harm} {out.mark(verdict.unharmed)}")
    balance = "balances to the wei, what was burned included" if verdict.conserved else "DOES NOT BALANCE"
    out.say(f"ledger    {balance} {out.mark(verdict.conserved)}")


def checked_text(facts: AuditFacts) -> str:
    """Which steps were run again, and how far off the node's outputs were where that says something."""
    if not facts.steps:
        return "nothing was run again"
    steps = steps_text(facts.steps)
    if all(auditor.said in (None, "withheld") for auditor in facts.auditors):
        return f"drawn: {steps}; the node opened nothing"
    far = facts.error_of_limit
    off = f", outputs {far:.3g} times the limit off" if far is not None and far > 1 else ""
    return f"{steps} run again{off}"


def signed(change: int) -> str:
    """Base units as whole tokens with a sign."""
    return ("-" if change < 0 else "+") + format_amount(Wei(abs(change)))


def role_of(state: StackState, account: Address) -> str:
    """What an account that is no node is called."""
    cast = state.settings.cast()
    roles = {
        cast.submitter.address: "requester",
        cast.publisher.address: "publisher",
        cast.deployer.address: "treasury",
        BURN_ADDRESS: "burned",
    }
    arbiter = state.network.contracts.arbiter
    return "audit pool" if account == arbiter else roles.get(account, account.short)


async def _cheap_fee(client: AsyncClient, spec: TextToImage) -> str:
    """The price that only the cheat takes, as soon as its offer is heard."""
    with anyio.move_on_after(HEARD_S):
        while True:
            quote = await client.quote(spec)
            if quote.eligible and quote.split.node < 2 * CHEAP_PRICE:
                return format_amount(quote.fee)
            await anyio.sleep(0.5)
    raise Unreachable("the cheat's offer was not heard", hint="see why: gesso devnet logs")


async def _sold_once(client: AsyncClient, spec: TextToImage, fee: str) -> None:
    other = spec.model_copy(update={"prompt": FIRST_PROMPT, "seed": spec.seed + 1})
    task = await client.submit(other, fee=fee, audit="none")
    await task.result(until="settled", timeout_s=DISPUTE_S)
