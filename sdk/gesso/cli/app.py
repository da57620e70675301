"""The command table and the one place where errors become exit codes.

Nothing heavy may be imported here: `gesso --help` reads only this file and the argument parser.
"""

from __future__ import annotations

import keyword
import os
import signal
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from cyclopts import App, Parameter
from cyclopts.exceptions import CycloptsError, UnusedCliTokensError

from gesso import __version__

if TYPE_CHECKING:
    from gesso.cli.failure import Failure

EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

_EXTRA_OF_MODULE = {
    "aiosqlite": "relay",
    "alembic": "relay",
    "asyncpg": "postgres",
    "cryptography": "node",
    "diffusers": "gpu",
    "eth": "devnet",
    "huggingface_hub": "hub",
    "jinja2": "relay",
    "libp2p": "p2p",
    "peft": "gpu",
    "prometheus_client": "node",
    "psutil": "devnet",
    "safetensors": "gpu",
    "sqlalchemy": "relay",
    "structlog": "node",
    "torch": "gpu",
    "transformers": "gpu",
    "trio": "p2p",
}

_HOMES = {"devnet": "gesso_devnet.cli", "node": "gesso_node.cli.app"}
"""Commands that live in packages above this one; named by string, so that nothing here imports them."""

_TOP = {
    "generate": "Make an image from a prompt.",
    "train": "Train a LoRA on a folder of pictures.",
    "earnings": "What a node or a publisher earned, reconciled with the chain.",
    "join": "Learn of a network from one of its relays.",
    "completion": "Print what a shell completes commands and options with.",
}

_NOUNS: dict[str, tuple[str, dict[str, str]]] = {
    "task": (
        "Tasks you or others submitted.",
        {
            "ls": "List recent tasks.",
            "show": "Show one task as the chain sees it.",
            "watch": "Follow a task until it is settled.",
            "fetch": "Get what a task gave: its pictures, on any day.",
            "cancel": "Cancel a task that no node has claimed; the fee comes back.",
            "stop": "Ask the node to stop a training early; what is not done comes back.",
            "audit": "Check a task again on this machine, from what its node opened.",
        },
    ),
    "model": (
        "Models on the marketplace.",
        {
            "ls": "List models, or your own with what they earned.",
            "search": "Look for models by word, kind, base, owner, use, price.",
            "info": "Show one model: card, lineage, files, uses, income.",
            "show": "Show one model: files, licence, royalty.",
            "publish": "List a LoRA so that others can use it; you earn its royalty.",
            "import": "List a base model from a diffusers folder or a hub repository.",
            "update": "List a model of yours again with another royalty, licence or card.",
            "yank": "Withdraw a model of yours from new use.",
            "transfer": "Give a model of yours and its royalties away.",
        },
    ),
    "wallet": (
        "Wallets and the deposit that pays for tasks.",
        {
            "new": "Make a wallet.",
            "show": "Show address and balances.",
            "deposit": "Move tokens from the wallet to the deposit.",
            "withdraw": "Move tokens from the deposit or earnings to the wallet.",
        },
    ),
    "node": (
        "Run a node and earn.",
        {
            "init": "Make keys and settings for a node.",
            "run": "Run the node; Ctrl-C stops it.",
            "status": "What the running node is doing.",
            "audits": "Audits and votes: what it found, earned and lost.",
            "calibrate": "Measure this machine's arithmetic against the limits.",
            "doctor": "Check everything a node needs, with a fix for each problem.",
            "pause": "Take no new tasks for now; the stake stays.",
            "resume": "Take tasks again.",
            "stake": "Add to the stake.",
            "leave": "Leave the network; the stake is free after the unbonding time.",
            "withdraw": "Move earnings, and a free stake, to the wallet or another account.",
        },
    ),
    "devnet": (
        "A whole network on this machine.",
        {
            "up": "Start chain, contracts, relay and nodes.",
            "down": "Stop everything that `up` started.",
            "status": "What is running, and where.",
            "logs": "Show logs, by actor.",
            "fund": "Give an address fee tokens and gas.",
            "warp": "Move the chain's clock forward.",
            "snapshot": "Remember the chain's state, or return to it.",
            "fail": "Break one actor on purpose.",
        },
    ),
}


def homes() -> Mapping[str, str]:
    """Nouns whose commands live in other packages, and in which module."""
    return _HOMES


def function_of(verb: str) -> str:
    """The function behind a verb: its name, unless Python has other plans for that word."""
    return f"{verb}_" if keyword.iskeyword(verb) else verb


def _shown_default(value: object) -> str | None:
    """What help says of a default: nothing where that is nothing."""
    return None if value is None or value is False or value in ("", ()) else str(value)


def build(without: Collection[str] = (), *, explained: Sequence[str] = ()) -> App:
    """The command tree, without importing a single command; and without these nouns. Of the one that is to be
    `explained` its own words are shown, which are more than fits a list."""
    app = App(
        name="gesso",
        help="Buy and sell image generation on an open network.",
        version=__version__,
        help_epilogue="Start here: gesso devnet up --demo",
        default_parameter=Parameter(negative_bool=(), negative_iterable=(), show_default=_shown_default),
    )
    for name, about in _TOP.items():
        told = None if [name] == [*explained] else about
        app.command(f"gesso.cli.{name}:{name}", name=name, help=told, help_epilogue="")
    for noun, (about, verbs) in _NOUNS.items():
        if noun in without:
            continue
        group = App(name=noun, help=about, help_epilogue="")
        for verb, verb_about in verbs.items():
            told = None if [noun, verb] == [*explained] else verb_about
            group.command(f"{_HOMES.get(noun, f'gesso.cli.{noun}')}:{function_of(verb)}", name=verb, help=told)
        app.command(group)
    return app


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (see `gesso_protocol.errors`)."""
    tokens = list(sys.argv[1:] if argv is None else argv)
    as_json = "json" in tokens or "--format=json" in tokens
    try:
        asked = build(explained=_explained(tokens))
        result = asked(tokens, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except CycloptsError as error:
        return _misused(error, as_json=as_json)
    except KeyboardInterrupt:
        return _interrupted()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    except BaseException as error:
        return _failed(error, tokens[:1], as_json=as_json)


def _explained(tokens: Sequence[str]) -> Sequence[str]:
    """The command whose own page is asked for, as `gesso NOUN VERB --help` does."""
    if not {"--help", "-h"} & set(tokens):
        return ()
    words = tokens[:2] if tokens[0] in _NOUNS else tokens[:1]
    return [word for word in words if not word.startswith("-")]


def run() -> None:
    """Entry point of the `gesso` program. Whoever ends it politely has it tidy up, as with Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())


def _interrupted() -> int:
    _say("\ninterrupted")
    return EXIT_INTERRUPTED


def _misused(error: CycloptsError, *, as_json: bool) -> int:
    """What the parser found wrong, in the same form as every other failure."""
    from gesso.cli.failure import Failure

    words = " ".join(("gesso", *(error.command_chain or ())))
    wrong = str(error).rstrip(".")
    if isinstance(error, UnusedCliTokensError):
        wrong = f"{words} does not know what to do with: {' '.join(error.unused_tokens or ())}"
    _tell(Failure("usage", wrong, f"see: {words} --help", EXIT_USAGE), as_json=as_json)
    return EXIT_USAGE


def _failed(error: BaseException, noun: Sequence[str], *, as_json: bool) -> int:
    from gesso.cli.failure import innermost, known_failure

    # Whatever a devnet lacks, it needs all of it: nodes, relay, chain.
    extras = dict.fromkeys(_EXTRA_OF_MODULE, "devnet") if list(noun) == ["devnet"] else _EXTRA_OF_MODULE
    found = known_failure(error, extras)
    if found is None and isinstance(innermost(error), KeyboardInterrupt):  # within a group of tasks
        return _interrupted()
    if found is None:
        if os.environ.get("GESSO_DEBUG"):
            raise error
        cause = innermost(error)
        _say(f"error: {type(cause).__name__}: {cause}\n  this is a bug in gesso; GESSO_DEBUG=1 shows where")
        return EXIT_BUG
    _tell(found, as_json=as_json)
    return found.exit_code


def _tell(failure: Failure, *, as_json: bool) -> None:
    from gesso.cli.harmless import harmless

    _say(failure.to_json() if as_json else harmless(str(failure)))


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    run()
