"""Where pictures go, and what is said when they cannot go there: they are paid for by then."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gesso_protocol.errors import ConfigError

if TYPE_CHECKING:
    from gesso.outcome import Result


def save_all(result: Result, output: Path) -> list[str]:
    """Write the pictures. Raises ConfigError, with a way to have them all the same: they are paid for."""
    try:
        places = names(output, len(result.images))
        return [str(image.save(path)) for image, path in zip(result.images, places, strict=True)]
    except OSError as error:
        hint = f"they are kept; get them elsewhere: gesso task fetch {result.receipt.task} -o FILE"
        raise ConfigError(f"the pictures cannot be written to {output}: {error.strerror}", hint=hint) from error


def names(output: Path, count: int) -> list[Path]:
    """`out.png`, or `out-1.png`, `out-2.png`, … for several pictures."""
    if count == 1:
        return [output]
    return [output.with_name(f"{output.stem}-{number}{output.suffix}") for number in range(1, count + 1)]
