"""Relay settings: one JSON file, unknown keys refused, everything verified before the first socket opens.

Sizes are bytes, times are seconds, rates are per second.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from gesso.blobs.port import CHUNK_BYTES
from gesso.chain.settings import ChainSettings
from gesso.settings import explain, read_bounded
from gesso_protocol.errors import ConfigError

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(_Frozen):
    """What one client, and all of them together, may take. A client is an IP address."""

    requests_per_s: float = Field(default=300.0, gt=0)
    request_burst: int = Field(default=1500, ge=1)
    clients_remembered: int = Field(default=10_000, ge=1)
    connections: int = Field(default=4096, ge=1, description="open at once, as far as the system gives files for them")
    connections_a_client: int = Field(default=512, ge=1, description="not counted behind a proxy")
    idle_s: float = Field(default=75.0, gt=0, description="a connection without a whole request for so long is cut")
    stalled_s: float = Field(default=60.0, gt=0, description="so is one that takes nothing of an answer")
    gossip_per_s: float = Field(default=5.0, gt=0, description="signed messages that are put on the air for a client")
    gossip_burst: int = Field(default=50, ge=1)
    max_streams: int = Field(default=1000, ge=1, description="event streams open at once")
    max_streams_a_client: int = Field(default=64, ge=1)
    max_uploads: int = Field(default=64, ge=1, description="blob uploads at once")
    stream_s: float = Field(default=3600.0, gt=0, description="a stream is closed after this; clients resume")
    unknown_stream_s: float = Field(default=60.0, gt=0, description="sooner for a task that the index has not seen")
    heartbeat_s: float = Field(default=15.0, gt=0)
    upload_idle_s: float = Field(default=30.0, gt=0, description="an upload that sends nothing for so long is dropped")
    upload_bytes_per_s: float = Field(
        default=16_384.0, gt=0, description="an upload that falls behind this pace is dropped"
    )
    upload_s: float = Field(default=14_400.0, gt=0, description="so is one too slow to be whole in this time")
    download_bytes_per_s: float = Field(
        default=16_384.0, gt=0, description="a download slower than this on the whole is cut; a range goes on with it"
    )


class GossipSettings(_Frozen):
    """The relay as a libp2p peer that others may bootstrap from."""

    key_file: Path
    listen_host: str = Field(default="127.0.0.1", min_length=1, max_length=255)
    listen_port: int = Field(default=0, ge=0, le=65535)
    bootstrap: tuple[str, ...] = Field(default=(), max_length=32, description="other peers to join through")
    announce: tuple[str, ...] = Field(default=(), max_length=8, description="addresses to tell instead of our own")


class RelaySettings(_Frozen):
    """Everything that a relay needs to know. Build it with `RelaySettings.load`, or directly in tests."""

    data_dir: Path
    chain: ChainSettings
    network_name: str = Field(default="devnet", min_length=1, max_length=64)
    listen_host: str = Field(default="127.0.0.1", min_length=1, max_length=255)
    listen_port: int = Field(default=8720, ge=0, le=65535)
    public_url: str | None = Field(default=None, max_length=512, description="where others reach this relay")
    rpc_hint: str | None = Field(default=None, max_length=512, description="the JSON-RPC address told to strangers")
    database_url: str | None = Field(default=None, max_length=2048, description="SQLite in data_dir when left out")
    start_block: int = Field(default=0, ge=0, description="the block that the contracts were deployed in")
    index_poll_s: float = Field(default=1.0, gt=0, le=600)
    max_blob_bytes: int = Field(default=8 << 30, ge=CHUNK_BYTES)
    blob_quota_bytes: int = Field(default=32 << 30, ge=CHUNK_BYTES)
    upload_token_file: Path | None = Field(default=None, description="when set, uploads need this bearer token")
    trust_forwarded_for: bool = Field(default=False, description="only behind a proxy that sets X-Forwarded-For")
    gossip: GossipSettings | None = Field(default=None, description="no libp2p peer when left out")
    limits: Limits = Limits()

    @classmethod
    def load(cls, path: Path) -> RelaySettings:
        """Read and verify a settings file. Raises ConfigError that names the key at fault."""
        try:
            settings = cls.model_validate_json(read_bounded(path))
        except ValidationError as error:
            raise ConfigError(f"{path}: {explain(error, cls.model_fields)}") from error
        settings.verify()
        return settings

    def verify(self) -> None:
        """Everything that can be known to be wrong before a socket opens. Raises ConfigError."""
        if self.max_blob_bytes > self.blob_quota_bytes:
            raise ConfigError("max_blob_bytes is larger than blob_quota_bytes, so such a blob could never be kept")
        if self.upload_token_file is not None:
            self.upload_token()
        self.database()
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot make data_dir {self.data_dir}: {error.strerror}") from error
        if not os.access(self.data_dir, os.W_OK | os.X_OK):
            raise ConfigError(f"data_dir {self.data_dir} is not writable")

    def database(self) -> str:
        """The database URL with its async driver. Raises ConfigError for an engine that we do not have."""
        if self.database_url is None:
            return f"sqlite+aiosqlite:///{self.data_dir / 'index.sqlite3'}"
        try:
            url = make_url(self.database_url)
        except ArgumentError as error:
            raise ConfigError("database_url cannot be read", hint="postgresql://user@host/name") from error
        if url.drivername not in _DRIVERS:
            raise ConfigError(f"database_url names {url.drivername!r}", hint="use sqlite:///… or postgresql://…")
        return url.set(drivername=_DRIVERS[url.drivername]).render_as_string(hide_password=False)

    def upload_token(self) -> str | None:
        """The token that uploads must carry, or None when anybody may upload. Raises ConfigError."""
        if self.upload_token_file is None:
            return None
        token = read_bounded(self.upload_token_file).strip()
        if len(token) < 16:
            raise ConfigError(f"the token in {self.upload_token_file} is shorter than 16 characters")
        return token
