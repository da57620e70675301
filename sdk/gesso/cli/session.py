"""Opening a client for a command, with the password asked for at most once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from gesso.cli.output import Common
from gesso.settings import Settings

if TYPE_CHECKING:
    from gesso.client import AsyncClient


def relay_url(common: Common) -> str | None:
    """The relay of the network that a command talks to."""
    return Settings.load(network=common.network).network.relay_url


@asynccontextmanager
async def client_for(common: Common, *, read_only: bool = False, signs: bool = True) -> AsyncIterator[AsyncClient]:
    """A connected client. `read_only` never touches a keystore. Without `signs` the wallet's address is known and
    nothing more, which asks for no password where the keystore names it."""
    from gesso.client import AsyncClient

    settings = Settings.load(network=common.network)
    if read_only:
        settings = settings.model_copy(update={"wallet": None})
    elif settings.wallet is not None and not signs:
        settings = settings.model_copy(update={"wallet": settings.wallet.model_copy(update={"locked": True})})
    async with AsyncClient(settings) as client:
        yield client
