"""`AsyncClient`: everything a requester does. `gesso.Client`, its blocking twin, is generated from this file."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio
from anyio.abc import TaskGroup

from gesso import wiring
from gesso.balance import Balance, expect_deposit, put_in, read_balance, take_out
from gesso.blobs.port import BlobStore
from gesso.chain.records import Listing, TxReceipt
from gesso.chain.reverts import revert_name
from gesso.chain.rpc import RpcRefused
from gesso.datasets.source import Source
from gesso.directory import TaskRow
from gesso.earnings.reader import read_earnings
from gesso.earnings.statement import Earnings
from gesso.feed import TaskFeed
from gesso.image import Image
from gesso.manifests import Manifests
from gesso.many import Drawn, OnDrawn, checked, draw_many
from gesso.market.client import AsyncMarket
from gesso.market.owed import owed_by
from gesso.quote import AuditChoice, Quote, audit_mode, ceiling_of_each, check_ceiling, make_quote
from gesso.rests import RestsOf
from gesso.sending import send
from gesso.settings import Settings
from gesso.specs import Specs
from gesso.submitted import FoundTask
from gesso.task import AsyncTask, OnEvent, Until
from gesso.training import AsyncTraining, Order, put_bundle
from gesso_protocol.errors import (
    BlobCorrupt,
    ChainError,
    ChainReverted,
    GessoError,
    NoEligibleNode,
    UsageError,
    WalletError,
)
from gesso_protocol.ids import Address, BlobRef, ListingId, TaskId
from gesso_protocol.lifecycle import TaskState
from gesso_protocol.manifest import ModelManifest
from gesso_protocol.money import Wei, format_amount, parse_amount
from gesso_protocol.spec import (
    Dtype,
    Scheduler,
    Spec,
    TextToImage,
    TrainLora,
    UsedAdapter,
    spec_bytes,
    spec_ref,
)
from gesso_protocol.terms import BoardParams, Terms
from gesso_protocol.windows import commit_window

DEFAULT_MODEL = "gesso-tiny@1"
CLAIM_WINDOW_S = 60
LONG_CLAIM_WINDOW_S = 600
"""For orders that may have to wait for each other's nodes."""


class AsyncClient:
    """A requester's view of the network. Use it as an async context manager; safe to share between tasks."""

    def __init__(self, settings: Settings | None = None, *, ports: wiring.Ports | None = None) -> None:
        self._settings = settings
        self._given = ports
        self._stack = AsyncExitStack()
        self._ports_now: wiring.Ports | None = None
        self._feed_now: TaskFeed | None = None
        self._group: TaskGroup
        self._params: BoardParams | None = None
        self._manifests_now: Manifests | None = None

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            ports = self._given
            if ports is None:
                ports = await stack.enter_async_context(wiring.open_ports(self._settings or Settings.load()))
            group = await stack.enter_async_context(anyio.create_task_group())
            stack.callback(group.cancel_scope.cancel)
            self._ports_now = ports
            self._group = group
            self._feed_now = TaskFeed(ports.chain, ports.progress, group, poll_s=ports.poll_s)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, anyio.get_cancelled_exc_class()):
            # What goes wrong inside is the caller's to catch by its name: our group of tasks would wrap it in another.
            kind = error = trace = None
        await self._stack.__aexit__(kind, error, trace)
        self._ports_now = self._feed_now = self._manifests_now = None

    @property
    def address(self) -> Address:
        """The wallet that pays. Raises WalletError when the client was opened without one."""
        if self._ports.address is None:
            raise WalletError("no wallet is configured", hint="gesso wallet new, then export GESSO_WALLET=default")
        return self._ports.address

    async def generate(
        self,
        prompt: str,
        *,
        model: str = DEFAULT_MODEL,
        negative_prompt: str = "",
        width: int | None = None,
        height: int | None = None,
        steps: int = 25,
        guidance: float | str | None = None,
        scheduler: Scheduler = "ddim",
        seed: int | None = None,
        loras: Sequence[str] = (),
        fee: str | None = None,
        max_fee: str | None = None,
        audit: AuditChoice = "sampled",
        until: Until = "delivered",
        on_event: OnEvent | None = None,
        timeout_s: float | None = None,
    ) -> Image:
        """One picture from a prompt, in your hands as soon as it is drawn and its node has signed for it.

        Its receipt says `confirmed=False` until the node's commit is on chain, a block or more later, and
        `claimed=False` where not even its claim is: no stake stands behind such a picture yet (see `AsyncTask.result`).
        `until="claimed"` waits for the claim, `until="committed"` for the commit, `until="settled"` for the payment.

        Sizes are pixels; `loras` as in `lora`; `fee` and `max_fee` whole tokens as text; `audit` as in `submit`. Raises
        what `spec`, `submit` and `AsyncTask.result` raise.
        """
        spec = await self.spec(
            prompt,
            model=model,
            negative_prompt=negative_prompt,
            width=width,
            height=height,
            steps=steps,
            guidance=guidance,
            scheduler=scheduler,
            seed=seed,
            loras=loras,
        )
        task = await self.submit(spec, fee=fee, max_fee=max_fee, audit=audit)
        result = await task.result(until=until, on_event=on_event, timeout_s=timeout_s)
        return result.image

    async def generate_many(
        self,
        prompts: Sequence[str],
        *,
        at_once: int = 8,
        fee: str | None = None,
        max_fee: str | None = None,
        max_total: str | None = None,
        audit: AuditChoice = "sampled",
        until: Until = "delivered",
        on_ordered: OnDrawn | None = None,
        on_drawn: OnDrawn | None = None,
        timeout_s: float | None = None,
        **settings: Any,
    ) -> list[Drawn]:
        """A task a prompt, `at_once` of them under way at a time; `settings` are those of `spec`, alike for all, but a
        seed that is left out is drawn for each.

        Nothing is ordered unless the deposit covers all. `fee`, `max_fee` and `timeout_s` are those of each,
        `max_total` is for all. Where no ceiling is given none costs more than it would now: prices that rise meanwhile
        are not paid. What goes wrong with one stands in its place in the list (`Drawn.error`) and stops no other;
        `on_ordered` hears of each as soon as it is paid for, `on_drawn` as soon as it is done. Raises what `spec` and
        `quote` raise, FeeTooLow and InsufficientFunds.
        """
        first = await self.spec(checked(prompts, at_once)[0], **settings)
        specs = [first, *(self._specs.another(first, prompt, settings.get("seed")) for prompt in prompts[1:])]
        quote = await self.quote(first, fee=fee, audit=audit)
        given = self._ports.max_fee if max_fee is None else max_fee
        most = format_amount(ceiling_of_each(quote, len(specs), given, max_total))
        await expect_deposit(self._ports.chain, self.address, Wei(int(quote.total) * len(specs)))
        order = partial(self.submit, fee=fee, max_fee=most, audit=audit, claim_window_s=LONG_CLAIM_WINDOW_S)
        heard: dict[str, Any] = {"on_ordered": on_ordered, "on_drawn": on_drawn}
        return await draw_many(order, specs, at_once=at_once, until=until, timeout_s=timeout_s, **heard)

    async def spec(
        self,
        prompt: str,
        *,
        model: str = DEFAULT_MODEL,
        negative_prompt: str = "",
        width: int | None = None,
        height: int | None = None,
        steps: int = 25,
        guidance: float | str | None = None,
        scheduler: Scheduler = "ddim",
        seed: int | None = None,
        count: int = 1,
        dtype: Dtype = "fp32",
        loras: Sequence[str] = (),
    ) -> TextToImage:
        """A complete spec: the model pinned by hash; its family's size and guidance, and a seed, where none is given.

        Raises SpecInvalid, or UsageError for a model that is not listed.
        """
        given = {
            "prompt": prompt,
            "negative_prompt": negative_prompt,
            "width": width,
            "height": height,
            "steps": steps,
            "scheduler": scheduler,
            "seed": seed,
            "count": count,
            "dtype": dtype,
        }
        return await self._specs.picture(model, given, loras=loras, guidance=guidance)

    async def lora(self, use: str, *, parent: BlobRef | None = None) -> UsedAdapter:
        """`alice/zbx@1:0.8` of the marketplace, or a safetensors file of ours, put as a private blob.

        Raises UsageError for one that was not made for the base whose manifest is `parent`, or was withdrawn;
        ModelInvalid for a file that cannot be used, BlobMissing when nobody serves it. Nothing is paid then.
        """
        return await self._specs.adapters.use(use, parent)

    async def training_order(
        self,
        source: Source,
        *,
        base: str = DEFAULT_MODEL,
        trigger: str = "",
        continue_from: str | None = None,
        folder: Path | None = None,
        **settings: Any,
    ) -> Order:
        """Pack a data set and complete a training spec; nothing is sent. Settings left out are the preset's.

        `learning_rate`, `prior`, `noise_offset`, `min_snr` and so on are plain numbers. Going on from a LoRA takes its
        rank, alpha and layers. Raises UsageError for other ones or another base, SpecInvalid.
        """
        return await self._specs.training(
            source, base, settings, trigger=trigger, continue_from=continue_from, folder=folder
        )

    async def train_lora(
        self,
        source: Source,
        *,
        fee: str | None = None,
        max_fee: str | None = None,
        audit: AuditChoice = "sampled",
        **settings: Any,
    ) -> AsyncTraining:
        """Train a LoRA on a folder, a zip or a list of (picture, caption); see `training_order` for the settings and
        `submit` for `audit`."""
        order = await self.training_order(source, **settings)
        return await self.submit_training(order, fee=fee, max_fee=max_fee, audit=audit)

    async def submit_training(
        self,
        order: Order,
        *,
        fee: str | None = None,
        max_fee: str | None = None,
        audit: AuditChoice = "sampled",
        commit_window_s: int | None = None,
    ) -> AsyncTraining:
        """Put the data set and escrow the fee. Raises what `submit` raises; nothing is paid then.

        The window is how long the node may take, and how long a lost one is waited for; by the work when None.
        """
        ports = self._ports
        await put_bundle(ports.blobs, order.bundle)
        task = await self.submit(order.spec, fee=fee, max_fee=max_fee, audit=audit, commit_window_s=commit_window_s)
        return AsyncTraining(ports, task, order.spec, RestsOf(self, ports.directory, task, max_fee))

    async def resume_training(
        self, task: TaskId | str, *, max_fee: str | None = None, trust_state: bool = False
    ) -> AsyncTraining:
        """Go on with an earlier training: its result is what it gave, what it still gives, or, when its node was lost,
        what another node makes of its last checkpoint, for the share of the fee that is left or what the cheapest node
        asks. `max_fee` bounds each such order; without it none costs more than the task's own fee and audit fee. What
        was asked to stop does not go on. `trust_state`: go on from what a lost node left even where it says that it
        came further than can be believed (StateDoubtful). Raises UsageError for other tasks."""
        found = await self.task(task)
        spec = await found.spec()
        if not isinstance(spec, TrainLora):
            raise UsageError(f"{found.id} is no training", hint=f"follow it: gesso task watch {found.id}")
        rests = RestsOf(self, self._ports.directory, found, max_fee)
        return AsyncTraining(self._ports, found, spec, rests, unclaimed_too=True, trust_state=trust_state)

    async def quote(self, spec: Spec, *, fee: str | None = None, audit: AuditChoice = "sampled") -> Quote:
        """What the spec costs and who could run it. Raises NoEligibleNode, FeeTooLow, UsageError."""
        audit_mode(audit)
        params = await self.params()
        owed = await owed_by(self._ports.directory, spec, params.max_royalty_bps)
        offers = await self._ports.directory.offers()
        if not offers and await self._ports.chain.total_weight() == 0:
            raise NoEligibleNode("no node is registered and active on this network", hint="start one: gesso node init")
        return make_quote(
            spec,
            offers,
            fee=None if fee is None else parse_amount(fee),
            min_fee=params.min_fee,
            royalties_bps=owed.bps,
            protocol_bps=params.protocol_fee_bps,
            audit=audit,
            audit_fee=params.audit_fee,
            base_bytes=await self._specs.base_bytes(spec),
        )

    async def submit(
        self,
        spec: Spec,
        *,
        fee: str | None = None,
        max_fee: str | None = None,
        audit: AuditChoice = "sampled",
        claim_window_s: int = CLAIM_WINDOW_S,
        commit_window_s: int | None = None,
        nonce: int | None = None,
    ) -> AsyncTask:
        """Put the fee in escrow and announce the task; returns once it is on chain.

        `audit` always has the work checked for the board's audit fee, sampled leaves it to the lot, none forgoes it.
        Windows are how long nodes may take to claim and then to deliver, in seconds, moved into what the board allows;
        by the work when None.
        The same order, `fee` included, with the same `nonce` (64 bits, drawn if None) is one task: the board takes it
        only once, and who asks again, after a crash or a time-out, gets the handle of the first, whatever the deposit
        holds, the model's owner did, and nodes ask by then. Where no fee is given only a relay that remembers the first
        keeps another price from being another order: give one.
        Nothing is paid when this raises: InsufficientFunds, FeeTooLow, NoEligibleNode, UsageError, Unreachable. After
        ChainError it may be yet: it names the task, to look for before it is ordered again.
        """
        ports, params = self._ports, await self.params()
        window_s = commit_window(spec) if commit_window_s is None else commit_window_s
        order = partial(
            Terms,
            requester=self.address,
            spec=spec_ref(spec),
            kind=int(spec.task_kind),
            claim_window_s=_within(claim_window_s, params.min_claim_window_s, params.max_claim_window_s),
            commit_window_s=_within(window_s, params.min_commit_window_s, params.max_commit_window_s),
            nonce=secrets.randbits(64) if nonce is None else nonce,
            audit=audit_mode(audit),
        )
        owed = await owed_by(ports.directory, spec, params.max_royalty_bps)
        # Before anything that may have changed since: a model that was withdrawn, a node that went, a price.
        earlier = None if nonce is None else await self._earlier(owed.members, order, fee, nonce)
        if earlier is not None:
            return earlier
        listing = await ports.directory.usable(spec.model)
        if spec.model_manifest not in (None, listing.manifest):
            raise UsageError(f"{spec.model} is not the model that the spec pins by hash")
        await self._specs.expect_usable(listing.manifest, spec.model)
        quote = await self.quote(spec, fee=fee, audit=audit)
        ceiling = max_fee if max_fee is not None else ports.max_fee
        check_ceiling(quote, None if ceiling is None else parse_amount(ceiling))
        await expect_deposit(ports.chain, self.address, quote.total)
        # Several LoRAs are named by one number, which the first who uses just these together has the chain give out.
        model = owed.members[0] if len(owed.members) == 1 else await ports.chain.bundle(owed.members)
        terms = order(model=model, fee=quote.fee)
        await ports.blobs.put(spec_bytes(spec), expect=terms.spec)
        try:
            return await send(ports, self._feed, self._group, spec, terms, params)
        except ChainReverted as error:
            if nonce is None or revert_name(error) != "TaskExists":
                raise
            return await self.task(ports.chain.task_id(terms))
        except ChainError as error:
            if isinstance(error, RpcRefused):
                raise
            return await self._perhaps(ports.chain.task_id(terms), error)

    async def task(self, task: TaskId | str | FoundTask) -> AsyncTask:
        """A handle on an earlier task, by its id or the unambiguous beginning of it. Raises UsageError."""
        found = (
            task if isinstance(task, FoundTask) else await self._ports.directory.find(str(task), self._ports.address)
        )
        stream = self._feed
        return AsyncTask(
            self._ports,
            found.task,
            found.terms,
            await self.params(),
            lambda: stream.open_past(found.task, found.block),
            lambda: stream.past(found.task, found.block),
        )

    async def tasks(self, *, mine: bool = True, state: str | None = None, limit: int = 20) -> list[TaskRow]:
        """Recent tasks, newest first; with `mine` only those that this wallet pays for."""
        requester = self.address if mine else None
        return await self._ports.directory.tasks(requester=requester, state=state, limit=limit)

    async def models(self) -> list[Listing]:
        """Every listing that may be used in new tasks."""
        return await self._ports.directory.listings()

    async def model(self, ref: str) -> Listing:
        """The listing that NAME@VERSION, or NAME for its newest version, stands for. Raises UsageError."""
        return await self._ports.directory.listing(ref)

    async def manifest(self, listing: Listing) -> ModelManifest:
        """The files of a model, checked against the hash on chain. Raises BlobCorrupt, BlobMissing."""
        raw = await self._ports.blobs.get(listing.manifest, max_bytes=ModelManifest.MAX_BYTES)
        manifest = ModelManifest.decode(raw)
        if manifest.ref != listing.manifest:
            raise BlobCorrupt(f"the manifest of {listing.name} is not the one on chain")
        return manifest

    @property
    def market(self) -> AsyncMarket:
        """Looking for models, publishing them, and what they earn."""
        return AsyncMarket(self._ports, self._manifests, self.params)

    async def balance(self, address: str | None = None) -> Balance:
        """Balances of this wallet, or of any address."""
        return await read_balance(self._ports.chain, self.address if address is None else Address(address))

    async def earnings(self, address: str | None = None) -> Earnings:
        """What this wallet, or any address, earned and lost, from the chain's log, reconciled with the contracts."""
        return await read_earnings(self._ports.chain, self.address if address is None else Address(address))

    async def deposit(self, amount: str) -> TxReceipt:
        """Move whole tokens (text such as "1.5") from the wallet to the deposit. Raises InsufficientFunds."""
        return await put_in(self._ports.chain, self.address, amount)

    async def withdraw(self, amount: str | None = None) -> TxReceipt:
        """Move tokens from the deposit, where earnings arrive too, to the wallet; everything when None."""
        return await take_out(self._ports.chain, self.address, amount)

    @property
    def blobs(self) -> BlobStore:
        """Where this client reads and puts content by hash."""
        return self._ports.blobs

    async def params(self) -> BoardParams:
        """The board's windows and fees; read once, they do not change."""
        if self._params is None:
            self._params = await self._ports.chain.params()
        return self._params

    @property
    def _specs(self) -> Specs:
        return Specs(self._ports.blobs, self._ports.directory, self._manifests)

    @property
    def _manifests(self) -> Manifests:
        if self._manifests_now is None:
            self._manifests_now = Manifests(self._ports.blobs)
        return self._manifests_now

    @property
    def _ports(self) -> wiring.Ports:
        if self._ports_now is None:
            raise UsageError("the client is not open", hint="async with AsyncClient() as gesso: …")
        return self._ports_now

    @property
    def _feed(self) -> TaskFeed:
        if self._feed_now is None:
            raise UsageError("the client is not open", hint="async with AsyncClient() as gesso: …")
        return self._feed_now

    async def _earlier(
        self, members: Sequence[ListingId], order: Callable[..., Terms], fee: str | None, nonce: int
    ) -> AsyncTask | None:
        """The handle of this order where the board has it already: it is paid for. Without a fee it is any of ours that
        a relay remembers with this number and says nothing else: prices move."""
        chain, directory = self._ports.chain, self._ports.directory
        model = members[0] if len(members) == 1 else await chain.bundle_of(members)
        if model is None:
            return None
        fees = await directory.fees_of(self.address, nonce) if fee is None else [parse_amount(fee)]
        for paid in fees:
            task = chain.task_id(order(model=model, fee=paid))
            if (await chain.task(task)).state is not TaskState.UNKNOWN:
                return await self.task(task)
        return None

    async def _perhaps(self, task: TaskId, error: ChainError) -> AsyncTask:
        """An order that was sent and not seen in a block: its handle if the board has it all the same. Raises
        ChainError that names it, so that nobody orders, and pays, again before it is known."""
        with suppress(GessoError):
            if (await self._ports.chain.task(task)).state is not TaskState.UNKNOWN:
                return await self.task(task)
        raise ChainError(
            f"{error.message}; the order is task {task}",
            hint=f"it may be mined yet: gesso task show {task}, before it is ordered again",
        ) from error


def _within(value: int, low: int, high: int) -> int:
    return max(low, min(value, high))
