"""Checks that explain: each says what it found and, when that is bad, what to do about it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Awaitable, Callable, Iterable
from importlib.metadata import version
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from anyio import to_thread
from pydantic import BaseModel, ConfigDict

from gesso.chain import Chain, NodeState
from gesso.transport.port import Transport
from gesso_node.auditing.rests import Rests
from gesso_node.executors.port import Executor
from gesso_node.models.catalogue import Catalogue
from gesso_node.models.room import free_bytes, taken_bytes
from gesso_node.settings import NodeSettings
from gesso_node.state.pace import has_accelerator
from gesso_protocol.errors import GessoError
from gesso_protocol.ids import Address
from gesso_protocol.money import format_amount

MIN_FREE_BYTES = 2 * 10**9
LOW_GAS_WEI = 10**15
MAX_CLOCK_SKEW_S = 120
STALE_CHAIN_S = 300


class Finding(BaseModel):
    """What one check found. `fix` is empty when there is nothing to do."""

    model_config = ConfigDict(frozen=True)

    check: str
    verdict: Literal["ok", "warn", "bad"]
    found: str
    fix: str = ""

    def line(self) -> str:
        """For people."""
        mark = {"ok": "✓", "warn": "!", "bad": "✗"}[self.verdict]
        return f"{mark} {self.check:<10} {self.found}" + (f"\n  → {self.fix}" if self.fix else "")


Check = Callable[[], Awaitable[Finding]]


class Doctor:
    """Examines one node from inside."""

    def __init__(
        self,
        settings: NodeSettings,
        chain: Chain,
        me: Address,
        executor: Executor,
        catalogue: Catalogue,
        transport: Transport | None,
        rests: Rests,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._chain = chain
        self._me = me
        self._executor = executor
        self._catalogue = catalogue
        self._transport = transport
        self._rests = rests
        self._clock = clock

    async def examine(self) -> tuple[Finding, ...]:
        """All checks, in the order in which one would mend things. Never raises: a check that fails is a finding."""
        checks: Iterable[tuple[str, Check]] = (
            ("disk", self.disk),
            ("chain", self.chain),
            ("clock", self.clock),
            ("gas", self.gas),
            ("stake", self.stake),
            ("peers", self.peers),
            ("models", self.models),
            ("executor", self.executor),
            ("beacon", self.beacon),
            ("audits", self.audits),
        )
        findings = []
        for name, check in checks:
            try:
                findings.append(await check())
            except GessoError as error:
                findings.append(Finding(check=name, verdict="bad", found=error.message, fix=error.hint))
        return tuple(findings)

    async def disk(self) -> Finding:
        """Room for models and results, and for all that the budgets allow."""
        data = self._settings.data_dir
        free = shutil.disk_usage(_existing(data)).free
        growth = await to_thread.run_sync(self._growth_bytes)
        found = f"{free / 1e9:.1f} GB free, budgets allow {growth / 1e9:.1f} GB more, at {data}"
        policy, copied = self._settings.policy, self._settings.executor.run_backup_bytes
        if policy.max_training_steps:
            most = policy.max_training_disk_bytes
            found += f"; a training takes up to {most / 1e9:.1f} GB, up to {copied / 1e9:.1f} GB are copied elsewhere"
        if free < MIN_FREE_BYTES:
            return Finding(check="disk", verdict="bad", found=found, fix="free some space, or move data_dir")
        if growth > free_bytes(data):
            fix = "lower models.disk_budget_bytes, executor.trace_budget_bytes, audits.disk_budget_bytes"
            return Finding(check="disk", verdict="warn", found=found, fix=fix)
        return Finding(check="disk", verdict="ok", found=found)

    def _growth_bytes(self) -> int:
        """What the budgets allow beyond what is here already. Blocks."""
        settings = self._settings
        budgets = {
            "models": settings.models.disk_budget_bytes,
            "work": settings.executor.trace_budget_bytes if settings.executor.keep_traces else 0,
            "audits": settings.audits.disk_budget_bytes if settings.audit else 0,
        }
        return sum(max(0, budget - taken_bytes(settings.data_dir / name)) for name, budget in budgets.items())

    async def chain(self) -> Finding:
        """The endpoint answers, and its chain moves."""
        block = await self._chain.block_number()
        return Finding(check="chain", verdict="ok", found=f"chain {self._chain.chain_id} at block {block}")

    async def clock(self) -> Finding:
        """Our clock against the chain's."""
        skew = self._clock() - await self._chain.now()
        found = f"{abs(skew):.0f} s {'ahead of' if skew >= 0 else 'behind'} the chain"
        if skew < -MAX_CLOCK_SKEW_S:
            return Finding(check="clock", verdict="warn", found=found, fix="set this machine's clock (ntp)")
        if skew > STALE_CHAIN_S:
            fix = "the endpoint may be stuck; compare its block with another one's, and check this machine's clock"
            return Finding(check="clock", verdict="warn", found=found, fix=fix)
        return Finding(check="clock", verdict="ok", found=found)

    async def gas(self) -> Finding:
        """Money for transactions."""
        held = await self._chain.native_balance_of(self._me)
        found = f"{format_amount(held)} for gas in {self._me.short}"
        if held < LOW_GAS_WEI:
            fix = f"send some of the chain's own coin to {self._me}"
            return Finding(check="gas", verdict="bad" if held == 0 else "warn", found=found, fix=fix)
        return Finding(check="gas", verdict="ok", found=found)

    async def stake(self) -> Finding:
        """Registered, active, and with weight in sortition."""
        record = await self._chain.node(self._me)
        wanted, name = self._settings.stake, self._settings.name
        if record.state is NodeState.NONE:
            fix = f"start it: gesso node run {name}" if wanted else "set `stake` and start the node"
            held = await self._chain.token_balance_of(self._me)
            if held < wanted:
                fix = f"send {format_amount(wanted - held)} more fee tokens to {self._me}, then start the node"
            return Finding(check="stake", verdict="bad", found="not registered", fix=fix)
        found = f"{format_amount(record.stake)} staked, weight {record.weight}, {record.state.name.lower()}"
        if record.state is NodeState.UNBONDING:
            fix = f"it has left; once its stake is free: gesso node withdraw {name}"
            return Finding(check="stake", verdict="warn", found=found, fix=fix)
        if record.weight == 0:
            fix = f"gesso node resume {name}; with too little stake first: gesso node stake AMOUNT {name}"
            return Finding(check="stake", verdict="bad", found=found, fix=fix)
        return Finding(check="stake", verdict="ok", found=found)

    async def peers(self) -> Finding:
        """Somebody to gossip with."""
        if self._transport is None:
            return Finding(check="peers", verdict="warn", found="gossip is off", fix="set transport.enabled")
        count = len(self._transport.peers())
        if count == 0:
            fix = "check transport.bootstrap and the firewall; tasks are still found on the chain"
            return Finding(check="peers", verdict="warn", found="no peers", fix=fix)
        told = self._transport.addresses
        found = f"{count} connected, reached at {', '.join(told) or 'no address'}"
        if any(map(_is_public, self._settings.transport.bootstrap)) and not any(map(_is_public, told)):
            fix = "open the port to the world and name the way to it in transport.announce; meanwhile relays help out"
            return Finding(check="peers", verdict="warn", found=found, fix=fix)
        return Finding(check="peers", verdict="ok", found=found)

    async def models(self) -> Finding:
        """Something to work with."""
        known = self._catalogue.models()
        unknown = [label for label in self._settings.models.prefetch if label not in known]
        if unknown:
            fix = "correct models.prefetch; known: " + ", ".join(sorted(known)[:8])
            return Finding(check="models", verdict="bad", found=f"no such model: {', '.join(unknown)}", fix=fix)
        return Finding(check="models", verdict="ok", found=f"{len(set(known.values()))} on the marketplace")

    async def executor(self) -> Finding:
        """The engine's libraries are there, and its children live."""
        health = self._executor.health()
        if health.name == "diffusers" and (find_spec("diffusers") is None or find_spec("torch") is None):
            fix = "pip install 'gesso[gpu]'"
            return Finding(check="executor", verdict="bad", found="torch or diffusers is not installed", fix=fix)
        if health.name == "diffusers" and has_accelerator() and version("torch").endswith("+cpu"):
            found = f"a GPU is here, and torch {version('torch')} is built for CPUs only: pictures are drawn on the CPU"
            fix = "install torch for this GPU: https://pytorch.org/get-started/locally"
            return Finding(check="executor", verdict="warn", found=found, fix=fix)
        ended = ", ".join(f"{name} {count}" for name, count in health.ended.items())
        if ended:
            fix = "see the log for the child's last words"
            return Finding(check="executor", verdict="warn", found=f"{health.name}; ended: {ended}", fix=fix)
        return Finding(check="executor", verdict="ok", found=health.name)

    async def beacon(self) -> Finding:
        """What audits are drawn by can be had from here."""
        arbiter = self._chain.arbiter
        if arbiter is None:
            return Finding(check="beacon", verdict="ok", found="not needed: this network has no audits")
        if not await arbiter.is_drand():
            return Finding(check="beacon", verdict="ok", found="block hashes")
        clock = await arbiter.clock()
        latest = clock.round_at(await self._chain.now() - clock.lag_s)
        if await arbiter.listen(latest) is None:
            servers = ", ".join(self._chain.settings.drand_urls)
            fix = f"let this machine reach them ({servers}), or name others in chain.drand_urls"
            return Finding(check="beacon", verdict="bad", found=f"no drand server gives round {latest}", fix=fix)
        return Finding(check="beacon", verdict="ok", found=f"drand, round {latest} fetched and checked")

    async def audits(self) -> Finding:
        """What this machine seals it can judge too."""
        failing = await self._rests.all()
        if not failing:
            return Finding(check="audits", verdict="ok", found="all that were sealed were judged")
        fix = "see the log for audit.not-judged; an audit that is not looked at may cost its penalty"
        found, resting = "; ".join(one.line() for one in failing), any(one.resting for one in failing)
        if resting:
            fix += f"; once it is mended: gesso node audits {self._settings.name} --resume"
        return Finding(check="audits", verdict="bad" if resting else "warn", found=found, fix=fix)


def _is_public(address: str) -> bool:
    """Whether a multiaddress can be reached from anywhere: a name, or an address of the open internet."""
    _, kind, host, *_ = *address.split("/"), "", ""
    try:
        return kind.startswith("dns") or ip_address(host).is_global
    except ValueError:
        return False


def _existing(path: Path) -> Path:
    return next((folder for folder in (path, *path.parents) if folder.exists()), Path("/"))
