"""The chain as gesso speaks of it: submit, claim, commit, settle, cancel, expire, deposit, withdraw, and reading."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from gesso.chain.abi import function
from gesso.chain.arbiter import Arbiter
from gesso.chain.course import read_course
from gesso.chain.cursor import Cursor, EventReader, Page
from gesso.chain.drand import DrandServers
from gesso.chain.events import (
    ChainEvent,
    ContractEvent,
    EventDecoder,
    ListingPublished,
    Reorged,
    TaskRestReturned,
    TaskSettled,
    TaskSettleSkipped,
)
from gesso.chain.fees import FeeOracle
from gesso.chain.inclusion import Inclusion
from gesso.chain.income import Income, read_income
from gesso.chain.pending import goes_next, interval_s
from gesso.chain.permits import Permits
from gesso.chain.records import Done, Listing, NodeRecord, NodeState, Royalty, TxReceipt
from gesso.chain.rpc import Rpc
from gesso.chain.sender import Mined, Sender
from gesso.chain.settings import ChainSettings
from gesso.chain.wallet import Wallet
from gesso.chain.words import Values
from gesso_contracts import (
    ARBITER,
    BLOCK_BEACON,
    DEV_TOKEN,
    DRAND_BEACON,
    MARKETPLACE,
    NODE_REGISTRY,
    TASK_BOARD,
    Contract,
)
from gesso_protocol.errors import ChainError, ConfigError, GasMissing, InsufficientFunds, WalletError
from gesso_protocol.fields import TaskKind
from gesso_protocol.ids import NO_LISTING, Address, BlobRef, ListingId, Root, TaskId
from gesso_protocol.lifecycle import TaskRecord, TaskState
from gesso_protocol.money import Wei, format_amount
from gesso_protocol.terms import BoardParams, Terms, task_id

# Skipping costs less gas than paying, so an estimate made too early would starve the transaction.
SETTLE_BASE_GAS = 120_000
SETTLE_TASK_GAS = 90_000
MAX_SETTLE_BATCH = 100
COMMIT_GAS = 150_000
"""Three times what a commit uses: nobody can be asked while the claim before it is not mined."""
ZERO = "0x" + "00" * 20


class Chain:
    """One gesso network on one endpoint. Make it with `Chain.open`; without a wallet it only reads.

    Every method raises Unreachable or ChainError when the endpoint fails. Writing methods wait until the transaction
    is mined and raise what the contract threw: ChainReverted with its name and values, or InsufficientFunds,
    FeeTooLow, DeadlinePassed where the name is well known.
    """

    def __init__(
        self,
        settings: ChainSettings,
        rpc: Rpc,
        chain_id: int,
        wallet: Wallet | None,
        *,
        fees: FeeOracle | None = None,
        inclusion: Inclusion | None = None,
    ) -> None:
        self.settings = settings
        self.chain_id = chain_id
        self.wallet = wallet
        self._rpc = rpc
        self._contracts = settings.contracts
        self._decoder = EventDecoder(settings.contracts)
        self._permits = Permits(rpc, settings.contracts.token, chain_id)
        self._fees = fees or FeeOracle(rpc, most=settings.max_gas_price_wei)
        self._inclusion = inclusion or Inclusion(rpc, settings.receipt_poll_s)
        self._sender = None
        if wallet is not None:
            self._sender = Sender(rpc, wallet, chain_id, settings, fees=self._fees, inclusion=self._inclusion)
        self._params: BoardParams | None = None
        self.arbiter: Arbiter | None = None
        """Audits and disputes; None on a network without an arbiter."""
        if settings.contracts.arbiter is not None:
            servers = DrandServers(settings.drand_urls)
            self.arbiter = Arbiter(self._read, self._send, self._ready_for_bond, servers)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: ChainSettings, wallet: Wallet | None = None) -> AsyncIterator[Chain]:
        """Connect. Raises ConfigError for another chain than the settings name, or contracts that are not there."""
        async with Rpc(settings.rpc_url, timeout_s=settings.request_timeout_s) as rpc:
            chain_id = await rpc.chain_id()
            if settings.chain_id not in (None, chain_id):
                raise ConfigError(f"{settings.rpc_url} is chain {chain_id}, not {settings.chain_id}")
            if not await rpc.code(settings.contracts.task_board):
                raise ConfigError(f"there is no task board at {settings.contracts.task_board} on chain {chain_id}")
            chain = cls(settings, rpc, chain_id, wallet)
            try:
                yield chain
            finally:
                await chain._inclusion.close()

    def beside(self, wallet: Wallet) -> Chain:
        """Another wallet on the same connection, for as long as this one is open: it shares posts, prices and the
        watch for receipts, which is most of what a client costs."""
        beside = Chain(self.settings, self._rpc, self.chain_id, wallet, fees=self._fees, inclusion=self._inclusion)
        beside._params = self._params
        return beside

    @property
    def address(self) -> Address:
        """The wallet's address. Raises WalletError when opened without one."""
        if self.wallet is None:
            raise WalletError("this needs a wallet", hint="gesso wallet new, or pass a wallet")
        return self.wallet.address

    def task_id(self, terms: Terms) -> TaskId:
        """The id these terms have on this board."""
        return task_id(self.chain_id, self._contracts.task_board, terms)

    # Money

    async def deposit(self, amount: Wei) -> TxReceipt:
        """Move fee tokens from the wallet into the board's internal balance, with a permit where the token has it."""
        board = self._contracts.task_board
        await self._require_tokens(amount)
        if await self._allowance(board) >= amount:
            return _receipt(await self._send(TASK_BOARD, "deposit", int(amount)))
        permit = await self._permits.sign(self._signing_wallet(), board, amount, await self.now())
        if permit is None:
            await self._send(DEV_TOKEN, "approve", str(board), int(amount))
            return _receipt(await self._send(TASK_BOARD, "deposit", int(amount)))
        arguments = (int(amount), permit.deadline, permit.v, permit.r, permit.s)
        return _receipt(await self._send(TASK_BOARD, "depositWithPermit", *arguments))

    async def withdraw(self, amount: Wei) -> TxReceipt:
        """Move internal balance back into the wallet."""
        return _receipt(await self._send(TASK_BOARD, "withdraw", int(amount)))

    async def transfer_tokens(self, to: Address, amount: Wei) -> TxReceipt:
        """Pay fee tokens from the wallet to another wallet."""
        return _receipt(await self._send(DEV_TOKEN, "transfer", str(to), int(amount)))

    async def balance_of(self, account: Address) -> Wei:
        """Internal balance on the board: deposits not escrowed, plus earnings."""
        return Wei((await self._read(TASK_BOARD, "balanceOf", str(account)))[0])

    async def token_balance_of(self, account: Address) -> Wei:
        """Fee tokens in the wallet itself."""
        return Wei((await self._read(DEV_TOKEN, "balanceOf", str(account)))[0])

    async def native_balance_of(self, account: Address) -> Wei:
        """The chain's own coin, which pays for gas."""
        return Wei(await self._rpc.balance(account))

    # Tasks

    async def submit(self, terms: Terms) -> TxReceipt:
        """Escrow the fee and open the task."""
        mined = await self._send(TASK_BOARD, "submit", terms.as_tuple(), alike=True)
        return _receipt(mined, task=self.task_id(terms))

    async def claim(
        self, terms: Terms, *, alone: bool = False, on_sent: Callable[[str], None] | None = None
    ) -> TxReceipt:
        """`on_sent` is told the transaction's hash as soon as it waits for its block."""
        # Others may be faster, so a refusal is heard before it costs anything, unless there are no others.
        mined = await self._send(TASK_BOARD, "claim", terms.as_tuple(), alike=True, tried=not alone, on_sent=on_sent)
        return _receipt(mined, task=self.task_id(terms))

    async def commit(
        self, terms: Terms, result_root: Root, trace_root: Root, *, behind_claim: bool = False
    ) -> TxReceipt:
        """`behind_claim`: our own claim was sent and is not mined yet; this follows it, in the same block if it can."""
        arguments = (terms.as_tuple(), result_root.value, trace_root.value)
        gas = COMMIT_GAS if behind_claim else None
        mined = await self._send(TASK_BOARD, "commit", *arguments, alike=True, gas=gas)
        return _receipt(mined, task=self.task_id(terms))

    async def claim_waits(self, tx_hash: str, node: Address, terms: Terms) -> bool:
        """Whether this is the node's claim of these terms, waits at the endpoint, can be in the next block, and would
        go through there. False for one that is in a block already: the board knows. It promises nothing: until its
        block the node can replace it (see `gesso.chain.pending`)."""
        data = function(TASK_BOARD, "claim").encode(terms.as_tuple())
        return await goes_next(self._rpc, tx_hash, node, self._contracts.task_board, data)

    async def request_stop(self, terms: Terms) -> TxReceipt:
        """Ask the node that claimed this training to stop at its next checkpoint and to commit what it has.

        It binds nobody: a node that finishes all the same is paid for all. Raises DeadlinePassed when it is too late.
        """
        return _receipt(await self._send(TASK_BOARD, "requestStop", terms.as_tuple()), task=self.task_id(terms))

    async def commit_part(self, terms: Terms, result_root: Root, trace_root: Root, done_bps: int) -> TxReceipt:
        """Commit a training that ended early: `done_bps` of the fee is divided, the rest goes back to the requester.
        Raises ChainReverted PartNotAllowed for other kinds of work, ShareOutOfRange for 10,000 and more."""
        arguments = (terms.as_tuple(), result_root.value, trace_root.value, done_bps)
        return _receipt(await self._send(TASK_BOARD, "commitPart", *arguments), task=self.task_id(terms))

    async def done_of(self, task: TaskId) -> Done:
        """How much of a task was committed, and whether its requester asked the node to stop."""
        bps, stop_requested = await self._read(TASK_BOARD, "doneOf", task.value)
        return Done(bps=bps, stop_requested=stop_requested)

    async def settle(self, batch: Sequence[Terms]) -> TxReceipt:
        """Pay out tasks whose challenge window is over, at most 100 a call. Those that cannot be settled are skipped:
        see `settled` and `skipped` of the receipt; `returned` is what requesters of parts got back."""
        if not 1 <= len(batch) <= MAX_SETTLE_BATCH:
            raise ChainError(f"a settle takes 1 to {MAX_SETTLE_BATCH} tasks, not {len(batch)}")
        gas = SETTLE_BASE_GAS + SETTLE_TASK_GAS * len(batch)
        mined = await self._send(TASK_BOARD, "settle", [terms.as_tuple() for terms in batch], least_gas=gas)
        events = [self._decoder.decode(log) for log in mined.logs]
        receipt = _receipt(mined, task=self.task_id(batch[0]) if len(batch) == 1 else None)
        return receipt.model_copy(
            update={
                "settled": tuple(event.task for event in events if isinstance(event, TaskSettled)),
                "returned": {event.task: event.refund for event in events if isinstance(event, TaskRestReturned)},
                "skipped": tuple(event.task for event in events if isinstance(event, TaskSettleSkipped)),
            }
        )

    async def cancel(self, terms: Terms) -> TxReceipt:
        return _receipt(await self._send(TASK_BOARD, "cancel", terms.as_tuple()), task=self.task_id(terms))

    async def expire(self, terms: Terms) -> TxReceipt:
        return _receipt(await self._send(TASK_BOARD, "expire", terms.as_tuple()), task=self.task_id(terms))

    async def task(self, task: TaskId, *, kind: int | None = None) -> TaskRecord:
        """What the board says of a task; state UNKNOWN when it never saw it. With the kind of work in its terms also
        whether a node at work was asked to stop, which takes a second question for trainings only."""
        state, node, since, seed = await self._read(TASK_BOARD, "taskOf", task.value)
        try:
            known = TaskState(state)
        except ValueError as error:
            raise ChainError(f"the board reports state {state}, which this version does not know") from error
        stoppable = kind == TaskKind.TRAIN_LORA and known is TaskState.CLAIMED
        return TaskRecord(
            task_id=task,
            state=known,
            node=None if node == ZERO else Address(node),
            state_since=since,
            seed=seed if known is TaskState.SUBMITTED else None,
            stop_requested=stoppable and (await self.done_of(task)).stop_requested,
        )

    async def treasury(self) -> Address:
        """The account that protocol fees go to: the arbiter, where there is one."""
        return Address((await self._read(TASK_BOARD, "treasury"))[0])

    async def active_claims_of(self, node: Address) -> int:
        """Tasks that a node has claimed and that are not over."""
        return int((await self._read(TASK_BOARD, "activeClaimsOf", str(node)))[0])

    async def params(self) -> BoardParams:
        """The board's rules; they never change, so they are asked once."""
        if self._params is None:
            values = await self._read(TASK_BOARD, "params")
            (delay,) = await self._read(TASK_BOARD, "cancelDelay")
            challenge, step, hold, claims, *windows, protocol_bps, royalty_bps, min_fee, audit_fee = values
            self._params = BoardParams(
                challenge_window_s=challenge,
                sortition_step_s=step,
                hold_window_s=hold,
                claims_per_weight=claims,
                min_claim_window_s=windows[0],
                max_claim_window_s=windows[1],
                min_commit_window_s=windows[2],
                max_commit_window_s=windows[3],
                cancel_delay_s=delay,
                protocol_fee_bps=protocol_bps,
                max_royalty_bps=royalty_bps,
                min_fee=Wei(min_fee),
                audit_fee=Wei(audit_fee),
            )
        return self._params

    # Nodes

    async def register_node(self, peer_id: bytes, capabilities: bytes, stake: Wei) -> TxReceipt:
        """Join with stake from the wallet. `peer_id` 1 to 64 bytes, `capabilities` 32."""
        registry = self._contracts.node_registry
        await self._require_tokens(stake)
        if await self._allowance(registry) >= stake:
            return _receipt(await self._send(NODE_REGISTRY, "register", peer_id, capabilities, int(stake)))
        permit = await self._permits.sign(self._signing_wallet(), registry, stake, await self.now())
        if permit is None:
            await self._send(DEV_TOKEN, "approve", str(registry), int(stake))
            return _receipt(await self._send(NODE_REGISTRY, "register", peer_id, capabilities, int(stake)))
        arguments = (peer_id, capabilities, int(stake), permit.deadline, permit.v, permit.r, permit.s)
        return _receipt(await self._send(NODE_REGISTRY, "registerWithPermit", *arguments))

    async def update_node(self, peer_id: bytes, capabilities: bytes) -> TxReceipt:
        return _receipt(await self._send(NODE_REGISTRY, "update", peer_id, capabilities))

    async def add_stake(self, amount: Wei) -> TxReceipt:
        """More stake from the wallet, for a node that is active or paused."""
        await self._allow(self._contracts.node_registry, amount)
        return _receipt(await self._send(NODE_REGISTRY, "addStake", int(amount)))

    async def pause_node(self) -> TxReceipt:
        return _receipt(await self._send(NODE_REGISTRY, "pause"))

    async def resume_node(self) -> TxReceipt:
        return _receipt(await self._send(NODE_REGISTRY, "resume"))

    async def begin_unbond(self) -> TxReceipt:
        return _receipt(await self._send(NODE_REGISTRY, "beginUnbond"))

    async def withdraw_stake(self) -> TxReceipt:
        return _receipt(await self._send(NODE_REGISTRY, "withdrawStake"))

    async def node(self, address: Address) -> NodeRecord:
        """A node's record; state NONE when it never registered."""
        values = await self._read(NODE_REGISTRY, "nodeOf", str(address))
        peer_id, capabilities, stake, weight, state, standing, unbond_at = values
        return NodeRecord(
            address=address,
            peer_id=peer_id,
            capabilities=capabilities,
            stake=Wei(stake),
            weight=weight,
            state=NodeState(state),
            standing=standing,
            unbond_at=unbond_at,
        )

    async def node_of_peer(self, peer_id: bytes) -> Address | None:
        """The wallet that a peer id is bound to."""
        (wallet,) = await self._read(NODE_REGISTRY, "walletOf", peer_id)
        return None if wallet == ZERO else Address(wallet)

    async def stake_per_weight(self) -> Wei:
        """How much stake makes one unit of sortition weight."""
        return Wei((await self._read(NODE_REGISTRY, "params"))[1])

    async def total_weight(self) -> int:
        return int((await self._read(NODE_REGISTRY, "totalWeight"))[0])

    async def weight_of(self, node: Address) -> int:
        return int((await self._read(NODE_REGISTRY, "weightOf", str(node)))[0])

    # Models

    async def publish_listing(
        self,
        name: str,
        manifest: BlobRef,
        *,
        kind: int,
        parent: ListingId = NO_LISTING,
        royalty_bps: int = 0,
        licence: bytes = bytes(32),
    ) -> ListingId:
        """Publish the next version of a name; the receipt is in the chain's log."""
        arguments = (name, manifest.value, kind, int(parent), royalty_bps, licence)
        mined = await self._send(MARKETPLACE, "publish", *arguments)
        for log in mined.logs:
            event = self._decoder.decode(log)
            if isinstance(event, ListingPublished):
                return event.listing
        raise ChainError("the listing was published, but its log is missing")

    async def yank_listing(self, listing: ListingId, *, yanked: bool = True) -> TxReceipt:
        return _receipt(await self._send(MARKETPLACE, "yank" if yanked else "unyank", int(listing)))

    async def listing(self, listing: ListingId) -> Listing:
        """Raises ChainReverted ListingUnknown when there is none."""
        values = await self._read(MARKETPLACE, "listingOf", int(listing))
        owner, manifest, kind, parent, royalty_bps, licence, yanked, name, version = values
        return Listing(
            id=listing,
            owner=Address(owner),
            manifest=BlobRef(manifest),
            kind=kind,
            parent=ListingId(parent) if parent else None,
            royalty_bps=royalty_bps,
            licence=licence,
            yanked=yanked,
            name=name,
            version=version,
        )

    async def royalties(self, listing: ListingId) -> tuple[Royalty, ...]:
        """Who earns on a task of the listing or bundle: its owner first, then those of its parents. Empty for an
        unknown one."""
        (found,) = await self._read(MARKETPLACE, "royaltiesOf", int(listing))
        return tuple(Royalty(listing=ListingId(number), owner=Address(owner), bps=bps) for number, owner, bps in found)

    async def bundle(self, members: Sequence[ListingId]) -> ListingId:
        """The number under which tasks pay all these listings, rising; made with a transaction if nobody has yet."""
        number = await self.bundle_of(members)
        if number is None:
            await self._send(MARKETPLACE, "bundle", [int(one) for one in members])
            number = await self.bundle_of(members)
        if number is None:
            raise ChainError("the bundle was made, and the chain does not know it")
        return number

    async def bundle_of(self, members: Sequence[ListingId]) -> ListingId | None:
        """The number of a bundle, if somebody has made it."""
        (found,) = await self._read(MARKETPLACE, "bundleOf", [int(one) for one in members])
        return ListingId(found) if found else None

    async def members_of(self, bundle: ListingId) -> tuple[ListingId, ...]:
        """The listings of a bundle; none for an unknown one."""
        (found,) = await self._read(MARKETPLACE, "membersOf", int(bundle))
        return tuple(map(ListingId, found))

    async def transfer_listing(self, listing: ListingId, to: Address) -> TxReceipt:
        """Give a listing and its royalties away, from the next settlement on."""
        return _receipt(await self._send(MARKETPLACE, "transferListing", int(listing), str(to)))

    async def listing_of_manifest(self, manifest: BlobRef) -> ListingId | None:
        """The first listing of these bytes: its owner alone may list them again."""
        (found,) = await self._read(MARKETPLACE, "listingOfManifest", manifest.value)
        return ListingId(found) if found else None

    async def listing_id(self, name: str, version: int) -> ListingId | None:
        (found,) = await self._read(MARKETPLACE, "idOf", name, version)
        return ListingId(found) if found else None

    async def latest_version(self, name: str) -> int:
        """The newest version of a name, 0 when nobody published it."""
        return int((await self._read(MARKETPLACE, "latestOf", name))[1])

    async def name_owner(self, name: str) -> Address | None:
        """Who alone may publish under a name, or as a publisher; None when nobody has yet."""
        owner = (await self._read(MARKETPLACE, "latestOf", name))[0]
        return None if owner == ZERO else Address(owner)

    async def max_royalty_bps(self) -> int:
        """What the owners that one task names may get of its fee together."""
        return int((await self._read(MARKETPLACE, "maxRoyaltyBps"))[0])

    async def listing_count(self) -> int:
        """Listings have the ids 1 to this."""
        return int((await self._read(MARKETPLACE, "listingCount"))[0])

    # Time and events

    async def now(self) -> int:
        """The chain's time: the timestamp of its latest block, unix seconds."""
        return (await self._rpc.latest()).timestamp

    async def block_number(self) -> int:
        return await self._rpc.block_number()

    async def block_interval_s(self) -> float:
        """Seconds from block to block, over the last few; infinitely many while there are none."""
        return await interval_s(self._rpc)

    async def gas_used(self, tx_hash: str) -> int | None:
        """Gas units of a mined transaction, whoever sent it; None when the chain does not know it."""
        receipt = await self._rpc.receipt(tx_hash)
        return None if receipt is None else int(str(receipt["gasUsed"]), 16)

    async def pages(self, start: Cursor | int, *, poll_s: float = 0.5) -> AsyncIterator[Page]:
        """Events by the page, each with the cursor to store beside what was made of it. Runs for ever."""
        cursor = Cursor.before(start) if isinstance(start, int) else start
        async for page in self._reader().pages(cursor, poll_s=poll_s):
            yield page

    async def read_page(self, cursor: Cursor) -> Page | None:
        """One page after `cursor`, None when there is nothing new."""
        return await self._reader().read(cursor)

    async def course_of(self, task: TaskId) -> tuple[ContractEvent, ...]:
        """What the board's log says of one task, in order; empty when it was not submitted within the last blocks that
        are looked through (see `gesso.chain.course`)."""
        board, reach = str(self._contracts.task_board), self.settings.max_log_range
        return await read_course(self._rpc, self._decoder, board, task, max_range=reach)

    async def income_of(self, listing: ListingId) -> Income:
        """What a listing has earned, by the board's log (see `gesso.chain.income`)."""
        board, reach = str(self._contracts.task_board), self.settings.max_log_range
        return await read_income(self._rpc, self._decoder, board, listing, max_range=reach)

    async def events(self, start: Cursor | int, *, poll_s: float = 0.5) -> AsyncIterator[ChainEvent]:
        """Events in order, for ever; a `Reorged` comes before what replaces the blocks that were taken back."""
        async for page in self.pages(start, poll_s=poll_s):
            if page.reorged_to is not None:
                yield Reorged(to_block=page.reorged_to)
            for event in page.events:
                yield event

    # Plumbing

    def _reader(self) -> EventReader:
        return EventReader(self._rpc, self._decoder, max_range=self.settings.max_log_range)

    def _signing_wallet(self) -> Wallet:
        if self.wallet is None:
            raise WalletError("this needs a wallet", hint="gesso wallet new, or pass a wallet")
        return self.wallet

    def _home(self, contract: Contract) -> Address:
        homes: dict[str, Address | None] = {
            TASK_BOARD.name: self._contracts.task_board,
            NODE_REGISTRY.name: self._contracts.node_registry,
            MARKETPLACE.name: self._contracts.marketplace,
            DEV_TOKEN.name: self._contracts.token,
            ARBITER.name: self._contracts.arbiter,
            BLOCK_BEACON.name: self._contracts.beacon,
            DRAND_BEACON.name: self._contracts.beacon,
        }
        home = homes[contract.name]
        if home is None:
            raise ConfigError(f"this network has no {contract.name}", hint="add its address to the network's settings")
        return home

    async def _read(self, contract: Contract, name: str, *arguments: object) -> Values:
        codec = function(contract, name)
        return codec.decode(await self._rpc.call(self._home(contract), codec.encode(*arguments)))

    async def _send(
        self,
        contract: Contract,
        name: str,
        *arguments: object,
        least_gas: int = 0,
        alike: bool = False,
        tried: bool = False,
        gas: int | None = None,
        on_sent: Callable[[str], None] | None = None,
    ) -> Mined:
        """`alike`: calls of this function use about the same gas, whatever their arguments."""
        self._signing_wallet()
        assert self._sender is not None
        data = function(contract, name).encode(*arguments)
        kind = name if alike and self.settings.learn_gas else None
        try:
            return await self._sender.send(
                self._home(contract), data, least_gas=least_gas, kind=kind, tried=tried, gas=gas, on_sent=on_sent
            )
        except GasMissing:
            raise GasMissing(hint=f"send some of the chain's own coin to {self.address}") from None

    async def _allowance(self, spender: Address) -> int:
        return int((await self._read(DEV_TOKEN, "allowance", str(self.address), str(spender)))[0])

    async def _ready_for_bond(self, bond: Wei) -> None:
        await self._allow(self._home(ARBITER), bond)

    async def _allow(self, spender: Address, amount: Wei) -> None:
        """A contract that pulls tokens needs them to be there and an allowance."""
        await self._require_tokens(amount)
        if await self._allowance(spender) < amount:
            await self._send(DEV_TOKEN, "approve", str(spender), int(amount))

    async def _require_tokens(self, amount: int) -> None:
        """Tokens word a failed transfer in many ways; a balance is the same everywhere."""
        held = await self.token_balance_of(self.address)
        if held < amount:
            raise InsufficientFunds(
                f"the wallet holds {format_amount(held)} fee tokens, this needs {format_amount(amount)}",
                hint=f"send {format_amount(amount - held)} more to {self.address}",
            )


def _receipt(mined: Mined, *, task: TaskId | None = None) -> TxReceipt:
    return TxReceipt(
        tx_hash=mined.tx_hash, gas_used=mined.gas_used, gas_price=mined.gas_price, block=mined.block, task_id=task
    )
