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
async def client_for(
    common: Common, *, wallet: str | None = None, read_only: bool = False
) -> AsyncIterator[AsyncClient]:
    """A connected client. `read_only` never touches a keystore, so it needs no password."""
    from gesso.client import AsyncClient

    settings = Settings.load(network=common.network, wallet=wallet)
    if read_only:
        settings = settings.model_copy(update={"wallet": None})
    async with AsyncClient(settings) as client:
        yield client
