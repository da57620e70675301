"""`gesso node`: make one, run it, look at it, have it examined. Data on stdout, talk on stderr."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any, Literal

from gesso.cli.inputs import Whole
from gesso.cli.output import Common
from gesso.settings import Network, home_folder, read_network
from gesso_node.cli.audits import audits, calibrate
from gesso_node.cli.chosen import DEFAULT_NAME, NodeName, OfNode, Place
from gesso_node.cli.membership import leave, pause, resume, stake, withdraw
from gesso_node.settings import NodeSettings
from gesso_protocol.errors import ConfigError, Unreachable
from gesso_protocol.money import parse_amount

__all__ = [
    "audits", "calibrate", "doctor", "init", "leave", "pause", "resume", "run", "stake", "status", "withdraw",
]  # fmt: skip

STATUS_PORT = 7717
LISTEN_PORT = 4001


def init(
    name: str = DEFAULT_NAME,
    /,
    *,
    engine: Literal["diffusers", "fake"] = "diffusers",
    stake: str = "100",
    min_fee: str = "0",
    trainings: Whole = 0,
    listen_port: Whole = LISTEN_PORT,
    announce: tuple[str, ...] = (),
    status_port: Whole = STATUS_PORT,
    common: Common | None = None,
) -> None:
    """Make a folder with keys and settings for a node on the chosen network.

    Parameters
    ----------
    name
        The node's name: letters, digits and dashes.
    engine
        diffusers runs models; fake draws marked stand-in pictures, for tests.
    stake
        Fee tokens to stake when the node first runs.
    min_fee
        Fee tokens below which a task is refused.
    trainings
        Take trainings of up to so many updates; 0: none.
    listen_port
        The TCP port where other peers reach this node; open it in the firewall. 0: any that is free.
    announce
        Where others reach it from outside, as in /ip4/203.0.113.7/tcp/4001, behind a router or in a cloud; may be given
        several times.
    status_port
        Where `gesso node status` asks, on loopback.
    """
    from gesso.chain.wallet import Wallet

    common = common or Common()
    home = home_folder()
    folder = home / "nodes" / name
    config = folder / "config.json"
    if config.exists():
        raise ConfigError(f"there is a node at {folder}", hint=f"run it with: gesso node run {name}")
    network = read_network(home, common.network or os.environ.get("GESSO_NETWORK") or "devnet")
    document = _document(name, folder, network)
    document |= {"executor": {"engine": engine}, "stake": str(parse_amount(stake)), "status_port": status_port}
    document["policy"] = {"min_fee": str(parse_amount(min_fee)), "max_training_steps": trainings}
    document["transport"] |= {"listen_port": listen_port, "announce": list(announce)}
    NodeSettings.verified(document)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    password = secrets.token_urlsafe(24)
    wallet = Wallet.create(folder / "wallet.json", password)
    _write_secret(folder / "wallet.password", password + "\n")
    config.write_text(json.dumps(document, indent=2) + "\n")
    common.out.result({"name": name, "wallet": str(wallet.address), "config": str(config)})
    if network.name == "devnet":
        common.out.hint(f"gesso devnet fund {wallet.address} --tokens {stake}", f"then: gesso node run {name}")
    else:
        common.out.hint(f"gesso node run {name}", f"first send gas money and {stake} fee tokens to {wallet.address}")


def run(name: NodeName = DEFAULT_NAME, /, *, at: Place | None = None) -> int:
    """Run the node; the first Ctrl-C finishes what is claimed, the second stops at once."""
    from gesso_node.__main__ import main

    return main(["--config", str((at or Place()).file_of(name))])


async def status(name: NodeName = DEFAULT_NAME, /, *, common: OfNode | None = None) -> None:
    """What the running node is doing, has earned, and why it passed tasks by."""
    common = common or OfNode()
    document = await common.ask(name, "/v1/status")
    human = None
    if common.format == "human":
        from gesso_node.operator.status import NodeStatus

        human = NodeStatus.model_validate(document).summary()
    common.out.result(document, human)


async def doctor(name: NodeName = DEFAULT_NAME, /, *, common: OfNode | None = None) -> int:
    """Check everything a node needs, with a fix for each problem. Asks the running node, or opens a stopped one."""
    from gesso_node.operator.doctor import Finding

    common = common or OfNode()
    try:
        findings = [Finding.model_validate(found) for found in (await common.ask(name, "/v1/doctor"))["findings"]]
    except Unreachable:
        findings = await _examine(common.settings_of(name))
    document = {"findings": [finding.model_dump() for finding in findings]}
    common.out.result(document, "\n".join(finding.line() for finding in findings))
    return 3 if any(finding.verdict == "bad" for finding in findings) else 0


async def _examine(settings: NodeSettings) -> list[Any]:
    from gesso.logs import configure_logs
    from gesso_node.peer import Node

    configure_logs("human", "error", node=settings.name)
    async with Node.open(settings, joins=False) as node:
        return list(await node.examine())


def _document(name: str, folder: Path, network: Network) -> dict[str, Any]:
    return {
        "data_dir": str(folder / "data"),
        "name": name,
        "chain": network.model_dump(mode="json", include={"rpc_url", "chain_id", "contracts", "drand_urls"}),
        "wallet": {"keystore": str(folder / "wallet.json"), "password_file": str(folder / "wallet.password")},
        "transport": {"key_file": str(folder / "peer.key"), "bootstrap": list(network.bootstrap)},
        "blobs": {"relays": [network.relay_url] if network.relay_url else []},
    }


def _write_secret(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
