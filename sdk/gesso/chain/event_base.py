"""What every event of our contracts carries: where on the chain it happened."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Happened(BaseModel):
    """Where it happened; (block hash, log index) is unique for ever."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_bytes="hex", val_json_bytes="hex")

    block: int
    block_hash: str
    log_index: int
    tx_hash: str
