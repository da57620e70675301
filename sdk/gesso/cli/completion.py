"""`gesso completion`: what a shell needs to finish commands and options when Tab is pressed."""

from __future__ import annotations

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
    from gesso.cli.app import build

    # Every command is imported for its options, so whatever their packages lack is said here.
    sys.stdout.write(build().generate_completion(prog_name="gesso", shell=shell) + "\n")
    if sys.stdout.isatty():
        sys.stderr.write(f"next: {_WHERE[shell]}\n")
