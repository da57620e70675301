"""How many blocks an endpoint is asked for at once: fewer where it is too slow for more."""

from __future__ import annotations

MOST_IN_VAIN = 2
"""Times in a row that a range is waited for before half of it is asked for."""


class Reach:
    """Remembered between reads: what did not come in time twice would not come the third time either."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._in_vain = 0
        self.blocks = most

    def too_slow(self, blocks: int) -> None:
        """So many did not come in time."""
        self._in_vain += 1
        if self._in_vain >= MOST_IN_VAIN:
            self.blocks, self._in_vain = max(1, blocks // 2), 0

    def came(self, blocks: int) -> None:
        """So many came. Slowly more again: after a bad hour an endpoint is not read in small pieces for ever."""
        self._in_vain = 0
        if blocks >= self.blocks:
            self.blocks = min(self._most, blocks + max(1, blocks // 8))
