"""A node's standing, as the registry keeps it: full at first, less for each claim that expires, back with time."""

from __future__ import annotations

FULL = 100
EXPIRY_COSTS = 10
"""Who has fewer points than that is paused."""
POINT_S = 3600
"""A point comes back every so many seconds."""


def standing_now(points: int, since: int, now: int) -> int:
    """The points at second `now` of whom the chain's log gave so many at second `since`."""
    return min(FULL, points + max(0, now - since) // POINT_S)
