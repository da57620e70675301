"""SDK settings: which network, which wallet. Checked before the first socket opens.

Order of precedence: argument, environment (`GESSO_…`), the user's `config.toml`, the network file.
Everything lives under one folder, `GESSO_HOME` or `~/.gesso`:

    config.toml            network, wallet, transport, max_fee
    networks/NAME.json     written by `gesso devnet up`, or handed out by whoever runs a network
    wallets/NAME.json      keystore v3 files
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gesso.chain.settings import DRAND_URLS, MAX_DRAND_SERVERS, ContractAddresses, RpcUrl
from gesso_protocol.errors import ConfigError

MAX_FILE_BYTES = 256 * 1024
DEFAULT_NETWORK = "devnet"
TransportName = Literal["http", "libp2p"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Network(_Frozen):
    """What a stranger needs to know to join a network; holds no secret."""

    name: str = Field(min_length=1, max_length=64)
    chain_id: int = Field(gt=0)
    rpc_url: str = Field(max_length=512)
    relay_url: str | None = Field(default=None, max_length=512)
    bootstrap: tuple[str, ...] = Field(default=(), max_length=32)
    contracts: ContractAddresses
    drand_urls: tuple[RpcUrl, ...] = Field(default=DRAND_URLS, min_length=1, max_length=MAX_DRAND_SERVERS)
    """Where the rounds of a network come from whose audits are drawn by drand."""
    wallet: str | None = None
    """The wallet a devnet made for its user; real networks leave it out."""


class WalletSource(_Frozen):
    """A keystore file and where its password comes from; never the key itself."""

    keystore: Path
    password_file: Path | None = None
    locked: bool = False
    """Nothing will be signed: its address is enough, which a keystore says without a password."""


class Settings(_Frozen):
    """Everything a client needs. Build it with `Settings.load()`."""

    home: Path
    network: Network
    wallet: WalletSource | None = None
    transport: TransportName = "http"
    max_fee: str | None = None
    """Ceiling for one task in fee tokens, used when the caller gives none."""

    @classmethod
    def load(
        cls,
        *,
        network: str | None = None,
        wallet: str | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Settings:
        """Read environment and files. Raises ConfigError that says which file or variable is wrong."""
        env = os.environ if environ is None else environ
        home = home_folder(env)
        user = _read_user_file(home / "config.toml")
        chosen = network or env.get("GESSO_NETWORK") or user.get("network") or DEFAULT_NETWORK
        net = _override(read_network(home, chosen), env)
        source = _wallet_source(home, wallet or env.get("GESSO_WALLET") or user.get("wallet") or net.wallet, env)
        transport = env.get("GESSO_TRANSPORT") or user.get("transport") or "http"
        if transport not in ("http", "libp2p"):
            raise ConfigError(f"unknown transport {transport!r}", hint="GESSO_TRANSPORT is http or libp2p")
        max_fee = env.get("GESSO_MAX_FEE") or user.get("max_fee")
        return cls(home=home, network=net, wallet=source, transport=transport, max_fee=max_fee)


def home_folder(environ: Mapping[str, str] | None = None) -> Path:
    """`GESSO_HOME`, or `~/.gesso`."""
    env = os.environ if environ is None else environ
    return Path(env.get("GESSO_HOME") or Path.home() / ".gesso").expanduser()


def read_network(home: Path, name_or_path: str) -> Network:
    """The network file of that name, or at that path. Raises ConfigError."""
    path = Path(name_or_path) if name_or_path.endswith(".json") else home / "networks" / f"{name_or_path}.json"
    if not path.is_file():
        known = sorted(entry.stem for entry in (home / "networks").glob("*.json"))
        join = f"learn of it from one of its relays: gesso join RELAY --name {path.stem}"
        hint = "start one here with: gesso devnet up" if name_or_path == DEFAULT_NETWORK else join
        raise ConfigError(f"no network named {name_or_path!r}", hint=f"known: {', '.join(known)}" if known else hint)
    try:
        return Network.model_validate_json(read_bounded(path))
    except ValidationError as error:
        raise ConfigError(f"{path} is not a network file: {explain(error, Network.model_fields)}") from error


def write_network(home: Path, network: Network) -> Path:
    """Make the network known under its name; replaces an earlier file of that name in one step."""
    path = home / "networks" / f"{network.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".json.partial")
    partial.write_text(network.model_dump_json(indent=2) + "\n")
    partial.replace(path)
    return path


def read_bounded(path: Path) -> str:
    """A small text file. Raises ConfigError when it is missing, unreadable or implausibly large."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{path} is larger than {MAX_FILE_BYTES} bytes")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        hint = "check its path, and that you may read it"
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint=hint) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"cannot read {path}: it is no text", hint="check its path") from error


def explain(error: ValidationError, known: Iterable[str]) -> str:
    """The first problem in words, with the nearest known key for a misspelt one."""
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown key {where!r}{suggestion(where, known)}"
    return f"{where}: {problem['msg']}"


def suggestion(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)`, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _override(network: Network, env: Mapping[str, str]) -> Network:
    changes = {
        field: env[variable]
        for field, variable in (("rpc_url", "GESSO_RPC_URL"), ("relay_url", "GESSO_RELAY_URL"))
        if env.get(variable)
    }
    return network.model_copy(update=changes)


def _wallet_source(home: Path, chosen: str | None, env: Mapping[str, str]) -> WalletSource | None:
    if chosen is None:
        return None
    path = Path(chosen).expanduser() if chosen.endswith(".json") else home / "wallets" / f"{chosen}.json"
    if not path.is_file():
        raise ConfigError(f"no wallet at {path}", hint=f"make one with: gesso wallet new {path.stem}")
    given = env.get("GESSO_PASSWORD_FILE")
    beside = path.with_suffix(".password")
    password_file = Path(given) if given else beside if beside.is_file() else None
    return WalletSource(keystore=path, password_file=password_file)


def _read_user_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        values = tomllib.loads(read_bounded(path))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from error
    known = ("network", "wallet", "transport", "max_fee")
    for key, value in values.items():
        if key not in known:
            raise ConfigError(f"{path}: unknown key {key!r}{suggestion(key, known)}")
        if not isinstance(value, str):
            raise ConfigError(f"{path}: {key} must be a string")
    return values
