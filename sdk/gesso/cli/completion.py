"""`gesso completion`: what a shell needs to finish commands and options when Tab is pressed."""

from __future__ import annotations

import importlib
import sys
from typing import Literal

_WHERE = {
    "bash": "gesso completion bash > ~/.local/share/bash-completion/completions/gesso",
    "fish": "gesso completion fish > ~/.config/fish/completions/gesso.fish",
    "zsh": 'gesso completion zsh > "${fpath[1]}/_gesso"',
}


def completion(shell: Literal["bash", "fish", "zsh"], /) -> None:
    """Print a completion script; kept in a file, new shells complete with it.

    Parameters
    ----------
    shell
        Which shell it is for.
    """
    from gesso.cli.app import build, homes

    # Every command is imported for its options; what lacks an extra here cannot be used here either.
    lacking = [noun for noun, home in homes().items() if not _is_whole(home)]
    sys.stdout.write(build(lacking).generate_completion(prog_name="gesso", shell=shell) + "\n")
    if sys.stdout.isatty():
        sys.stderr.write(f"next: {_WHERE[shell]}\n")


def _is_whole(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True
