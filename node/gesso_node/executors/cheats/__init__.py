"""Ways to sell work that was not done: what audits are tested against. Never active unless a setting asks for it.

Names and what each one leaves out; the forgeries themselves are beside this file. A cheat here always does its best:
what it commits to is consistent with itself, so that only the check made for it can find it.
"""

from __future__ import annotations

from typing import Final

from gesso_protocol.errors import ConfigError

ENGINE_CHEATS: Final[dict[str, str]] = {
    "fewer-steps": "half of the steps, the latents between them interpolated",
    "skip-steps": "every fourth step left out and filled in",
    "feature-reuse": "every second step reuses what the deepest layers gave in the one before",
    "output-reuse": "every second step reuses the outputs of the one before",
    "wrong-model": "an earlier training snapshot of the denoiser",
    "missing-lora": "the adapter that was ordered is not applied",
    "low-guidance": "one branch only: guidance 1 whatever was ordered",
    "late-guidance": "guidance switched off for the last two fifths of the steps",
    "other-prompt": "another prompt's conditioning",
    "int8": "weights rounded to eight bits a channel",
    "int4": "weights rounded to four bits a channel",
    "cached": "a stored trajectory of the same prompt, entered by one jump",
    "spread-jump": "a stored picture, reached by a jump spread over many steps",
    "bridge": "a stored picture, reached with one constant noise prediction",
    "swap-image": "an honest run, another picture handed over",
    "wrong-noise": "start noise of another seed",
}
"""What an engine does differently while it runs."""

NODE_CHEATS: Final[dict[str, str]] = {
    "copied-root": "commits to roots that it copied and cannot open",
    "sold-twice": "sells the trace of an earlier task again",
    "withhold": "never opens anything",
}
"""What the node itself does differently; the engine runs honestly."""

TRAINING_CHEATS: Final[dict[str, str]] = {
    "skipped-steps": "every tenth update left out",
    "half-batch": "half of every batch",
    "other-data": "every caption with its neighbour's picture",
    "own-order": "an order and noise of its own choice",
    "straight-line": "every second update, checkpoints on the line between far ends",
    "rescaled-adapter": "five per cent more strength on what was learnt",
    "untrained-adapter": "small random numbers, nothing learnt",
    "higher-rate": "a learning rate five per cent higher",
    "base-int8": "a base rounded to eight bits",
    "forged-moments": "moments of its own choice in every checkpoint, which no gradient moves",
    "swapped-samples": "a better looking picture in place of each sample",
    "zeroed-moments": "moments thrown away at every checkpoint",
}
"""What an engine does differently while it trains; it draws pictures honestly."""

CHEATS: Final[dict[str, str]] = {**ENGINE_CHEATS, **NODE_CHEATS}
"""Those of picture tasks."""


def check_cheat(name: str | None, allowed: bool) -> None:
    """Raises ConfigError for an unknown cheat, and for any cheat where settings do not allow them."""
    if name is None:
        return
    known = {**CHEATS, **TRAINING_CHEATS}
    if name not in known:
        raise ConfigError(f"there is no cheat called {name!r}", hint="one of: " + ", ".join(known))
    if not allowed:
        raise ConfigError(
            f"the setting executor.cheat is {name!r}; a node that cheats loses its stake",
            hint="executor.allow_cheats exists for tests and devnets; remove executor.cheat",
        )
