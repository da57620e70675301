"""Ways to audit without auditing, for the tests of audits: what each of them does instead. Never on by itself."""

from __future__ import annotations

import hashlib
import secrets
import struct
from dataclasses import dataclass
from typing import Literal

from gesso_protocol.audit.outcomes import AuditVerdict

Name = Literal["lazy", "always-flag", "collude", "copy", "alarm"]
SPREAD = 2000


@dataclass(frozen=True)
class AuditorCheat:
    """`lazy` guesses; `collude` guesses the same as its accomplice; `copy` seals rubbish and then tries to reveal what
    the other auditor revealed; `always-flag` does its work and accuses everybody; `alarm` does none and says that the
    node opened nothing."""

    name: Name

    @property
    def blind(self) -> bool:
        """Whether it never looks at the work."""
        return self.name != "always-flag"

    @property
    def copies(self) -> bool:
        """Whether it reveals somebody else's projection."""
        return self.name == "copy"

    def projection(self, challenge: bytes) -> bytes | None:
        """32 bytes to seal instead of a computed projection; None for who computes it."""
        if not self.blind:
            return None
        seed = b"agreed" + challenge if self.name == "collude" else secrets.token_bytes(32)
        draws = struct.unpack(">16H", hashlib.shake_256(seed).digest(32))
        return struct.pack(">16h", *(draw % (2 * SPREAD) - SPREAD for draw in draws))

    def verdict(self, honest: AuditVerdict) -> AuditVerdict:
        """What it says, whatever it found."""
        told = {"always-flag": AuditVerdict.FLAG, "alarm": AuditVerdict.WITHHELD}
        return told.get(self.name, honest)
