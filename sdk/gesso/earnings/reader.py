"""Reads an account's earnings: the whole log, then the contracts' figures of the same moment."""

from __future__ import annotations

from gesso.chain import events as on_chain
from gesso.chain.chain import Chain
from gesso.chain.cursor import Cursor
from gesso.earnings.books import Books
from gesso.earnings.statement import Earnings, statement
from gesso_protocol.errors import ChainError
from gesso_protocol.ids import Address

TRIES = 20


async def read_earnings(chain: Chain, account: Address) -> Earnings:
    """Raises ChainError when the account moves faster than it can be read, Unreachable."""
    for _ in range(TRIES):
        books = await _open(chain, account)
        labels: dict[int, str] = {}
        cursor = await _pull(chain, Cursor.before(0), books, labels)
        while cursor is not None:
            moves, block = books.moves, cursor.block
            balance = int(await chain.balance_of(account))
            stake = int((await chain.node(account)).stake)
            credit = None if chain.arbiter is None else int(await chain.arbiter.credit_of(account))
            cursor = await _pull(chain, cursor, books, labels)
            if cursor is not None and books.moves == moves:
                return statement(books, labels, block=block, balance=balance, stake=stake, credit=credit)
    raise ChainError("the account moves while it is read", hint="try again")


async def _open(chain: Chain, account: Address) -> Books:
    params = await chain.params()
    home = chain.settings.contracts.arbiter
    return Books(account, int(params.audit_fee), await chain.treasury(), home)


async def _pull(chain: Chain, cursor: Cursor, books: Books, labels: dict[int, str]) -> Cursor | None:
    """Everything up to the head; None when blocks were taken back, so that the books are worth nothing."""
    while (page := await chain.read_page(cursor)) is not None:
        if page.reorged_to is not None:
            return None
        for event in page.events:
            books.take(event)
            if isinstance(event, on_chain.ListingPublished):
                labels[int(event.listing)] = f"{event.name}@{event.version}"
        cursor = page.cursor
    return cursor
