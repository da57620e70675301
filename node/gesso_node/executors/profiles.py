"""Profile keys: on what kind of arithmetic a task ran. Limits of audits are kept a key, never a machine."""

from __future__ import annotations

import platform
import re

FAKE_FAMILY = "fake"
_ODD = re.compile(r"[^a-z0-9]+")


def device_family(kind: str, capability: tuple[int, int] | None = None, name: str = "") -> str:
    """`cpu-x86_64`, or for a GPU its maker's architecture (`cuda-sm90`), which decides the kernels; never the board."""
    if kind == "cpu":
        return f"cpu-{platform.machine().lower()}"
    if capability is not None:
        return f"{kind}-sm{capability[0]}{capability[1]}"
    return f"{kind}-{_ODD.sub('-', name.lower()).strip('-') or 'unknown'}"[:48]


def profile_key(dtype: str, family: str) -> str:
    """The key of the limits table, as in `fp32/cpu-x86_64`."""
    return f"{dtype}/{family}"
