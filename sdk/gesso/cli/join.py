"""`gesso join`: learn from a relay what one needs to know of its network."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from gesso.cli.output import Printing
from gesso.settings import DEFAULT_NETWORK, Network, explain, home_folder, read_network, write_network
from gesso_protocol.errors import ConfigError, EncodingInvalid, Unreachable, UsageError

if TYPE_CHECKING:
    from pathlib import Path

MAX_REPLY_BYTES = 64 * 1024
TIMEOUT_S = 20.0
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


async def join(
    relay: str, /, *, name: str | None = None, rpc_url: str | None = None, common: Printing | None = None
) -> None:
    """Make a network known under its name: chain, contracts and peers, as one of its relays tells them.

    A relay can lie, and whoever names the contracts decides where your money goes: compare the addresses that this
    prints with those that the network's people publish.

    Parameters
    ----------
    relay
        Its address, as in https://relay.example.org.
    name
        What to call the network here; what it calls itself when left out.
    rpc_url
        A JSON-RPC endpoint of the chain that you trust, instead of the one that the relay names. Of a network that is
        known here already the endpoint stays as it is unless you name another.
    """
    common = common or Printing()
    if not re.match(r"https?://[^/\s]", relay):
        raise UsageError(f"{relay[:80]!r} is no address of a relay", hint="gesso join https://relay.example.org")
    network = network_in(await _fetch(relay), relay.rstrip("/"), name=name, rpc_url=rpc_url)
    path = home_folder() / "networks" / f"{network.name}.json"
    known = read_network(home_folder(), str(path)) if path.is_file() else None
    network = beside_known(path, network, rpc_url=rpc_url)
    await _expect_contracts(network)
    write_network(home_folder(), network)
    common.out.result({**network.model_dump(mode="json", exclude={"wallet", "drand_urls"}), "file": str(path)})
    for changed in changes(known, network):
        common.out.say(changed)
    common.out.hint(f"export GESSO_NETWORK={network.name}", "once the contracts are the right ones")


def network_in(body: bytes, relay: str, *, name: str | None = None, rpc_url: str | None = None) -> Network:
    """The network that a relay describes: a stranger's words. Raises ConfigError, UsageError."""
    from pydantic import ValidationError
    from pydantic_core import from_json

    try:
        document: Any = from_json(body)  # bounds its depth by itself
        told = document["network"]
        fields = {key: told[key] for key in Network.model_fields if key in told and key != "wallet"}
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{relay} describes no network", hint="is that the address of a relay?") from error
    given = {"relay_url": relay, "name": name, "rpc_url": rpc_url}
    try:
        network = Network.model_validate(fields | {key: value for key, value in given.items() if value is not None})
    except ValidationError as error:
        raise ConfigError(f"{relay} describes no network: {explain(error, Network.model_fields)}") from error
    if not network.rpc_url:  # a relay's own may hold a key
        raise ConfigError(f"{relay} names no JSON-RPC endpoint", hint="name one: --rpc-url URL")
    if name is None and network.name == DEFAULT_NETWORK:  # every command would use it from then on, unasked
        raise UsageError(
            f"{relay} calls its network {network.name!r}, as yours on this machine is called",
            hint="choose another name: --name NAME",
        )
    if not _NAME.fullmatch(network.name):  # it becomes the name of a file
        raise UsageError(f"{network.name!r} is no name for a network", hint="choose one: --name NAME")
    return network


def beside_known(path: Path, network: Network, *, rpc_url: str | None = None) -> Network:
    """With the choices made here, where the network is known already: the chain is asked through the endpoint that is
    trusted already, unless another was named. Another network of that name stays as it is, a devnet's above all:
    raises ConfigError."""
    if not path.is_file():
        return network
    known = read_network(home_folder(), str(path))
    if (known.chain_id, known.contracts) != (network.chain_id, network.contracts):
        hint = f"choose another name: --name NAME, or remove {path}"
        raise ConfigError(f"another network is known as {network.name!r}", hint=hint)
    kept = {"wallet": known.wallet, "drand_urls": known.drand_urls, "rpc_url": rpc_url or known.rpc_url}
    return network.model_copy(update=kept)


def changes(known: Network | None, network: Network) -> list[str]:
    """What is another now of a network that was known before, in words."""
    if known is None:
        return []
    pairs = (("relay", known.relay_url, network.relay_url), ("JSON-RPC endpoint", known.rpc_url, network.rpc_url))
    said = [f"{what}: {now or 'none'}, instead of {before or 'none'}" for what, before, now in pairs if before != now]
    if known.bootstrap != network.bootstrap:
        said.append("peers to begin with: those that the relay names now")
    return said or [f"{network.name} is known already, and nothing of it has changed"]


async def _expect_contracts(network: Network) -> None:
    from gesso.chain.chain import Chain
    from gesso.chain.settings import ChainSettings

    settings = ChainSettings(rpc_url=network.rpc_url, chain_id=network.chain_id, contracts=network.contracts)
    async with Chain.open(settings) as chain:
        await chain.params()


async def _fetch(relay: str) -> bytes:
    import anyio
    import httpx

    from gesso.answers import body_of

    try:
        with anyio.fail_after(TIMEOUT_S):
            async with (
                httpx.AsyncClient(timeout=TIMEOUT_S, headers={"Accept-Encoding": "identity"}) as client,
                client.stream("GET", f"{relay.rstrip('/')}/v1/network") as reply,
            ):
                reply.raise_for_status()
                return await body_of(reply, most=MAX_REPLY_BYTES)
    except EncodingInvalid as error:
        raise ConfigError(f"{relay} describes no network: its answer is too large") from error
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        raise Unreachable(f"{relay} does not answer as a relay", hint="check the address, and try again") from error
