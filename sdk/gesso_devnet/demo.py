"""One task from prompt to paid picture on a fresh local network: `python -m gesso_devnet.demo`.

With --cheat NAME one node sells work that it did not do, and is audited, judged and slashed. With --train one user has
a LoRA trained and sells it to another.

Everything goes through the public SDK. Data on stdout, talk on stderr; with --json exactly one document on stdout.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from gesso.chain.chain import Chain
from gesso.chain.settings import ChainSettings
from gesso.cli.failure import known_failure
from gesso.cli.inputs import check_output
from gesso.cli.live import TaskLine
from gesso.cli.output import Output
from gesso.client import DEFAULT_MODEL, AsyncClient
from gesso.outcome import Result
from gesso.settings import Settings, home_folder
from gesso_devnet import ledger
from gesso_devnet.cheats import LORA, choose_cheat
from gesso_devnet.fraud import audit_document, commit_fraud, name_of, print_verdict, role_of
from gesso_devnet.lesson import give_lesson, lesson_document, print_lesson
from gesso_devnet.stack import NETWORK, Stack, StackState, wanted_stack
from gesso_devnet.stray_lora import write_stray_lora
from gesso_node.executors.cheats import CHEATS
from gesso_protocol.errors import GessoError, UsageError
from gesso_protocol.events import Event
from gesso_protocol.ids import Address
from gesso_protocol.money import Wei, format_amount
from gesso_protocol.spec import make_spec

PROMPT = "a big red circle above a small blue square on a white background"
SEED = 7
OUTPUT = Path("build/demo.png")
SIDE_PX = 64
TIMEOUT_S = 240.0


@dataclass(frozen=True, slots=True)
class Demo:
    """What to draw and where to put it."""

    prompt: str = PROMPT
    seed: int = SEED
    output: Path = OUTPUT


async def run_task(stack: Stack, state: StackState, demo: Demo, out: Output) -> dict[str, Any]:
    """Submit one task, follow it to its payment, check the money; returns the document of `--json`."""
    settings = Settings.load(network=NETWORK, environ={"GESSO_HOME": str(stack.home)})
    chain_settings = ChainSettings(rpc_url=state.network.rpc_url, contracts=state.network.contracts)
    cast = state.settings.cast()
    async with Chain.open(chain_settings) as chain, AsyncClient(settings) as client:
        before = await ledger.take(chain, cast.addresses)
        out.say(f'\n"{demo.prompt}"\nseed {demo.seed}, {state.model}\n')
        line = TaskLine(out)
        started = time.monotonic()
        stages = Stages(started)

        def show(event: Event) -> None:
            stages.note(event)
            line.show(event)

        spec = await client.spec(demo.prompt, model=state.model, seed=demo.seed)
        task = await client.submit(spec)
        try:
            result = await task.result(until="settled", on_event=show, timeout_s=TIMEOUT_S)
        finally:
            line.close()
        total_s = time.monotonic() - started
        path = result.image.save(demo.output)
        after = await ledger.take(chain, cast.addresses)
        conserved = ledger.conserved(before, after) and await ledger.backed(chain, after)
    gains = {str(account): format_amount(gain) for account, gain in ledger.credits(before, after).items()}
    document = describe(state, demo, result, path, gains, conserved, stages.durations(total_s))
    document["claimed_over"] = claimed_over(stack, state, result)
    _print_receipt(out, state, document, result, conserved)
    return document


async def run_lesson(stack: Stack, state: StackState, demo: Demo, out: Output) -> dict[str, Any]:
    """Two users train, sell and buy a LoRA; returns the document of `--json`."""
    lesson = await give_lesson(stack, state, demo.output, out)
    print_lesson(out, lesson)
    return lesson_document(state, lesson)


async def run_fraud(stack: Stack, state: StackState, demo: Demo, out: Output) -> dict[str, Any]:
    """Order from the node that cheats, follow the dispute to its end; returns the document of `--json`."""
    settings = Settings.load(network=NETWORK, environ={"GESSO_HOME": str(stack.home)})
    chain_settings = ChainSettings(rpc_url=state.network.rpc_url, contracts=state.network.contracts)
    async with Chain.open(chain_settings) as chain, AsyncClient(settings) as client:
        cheat = choose_cheat(state.settings.cheat or "")
        out.say(f'\n"{demo.prompt}"\nseed {demo.seed}, {state.model}\n{state.settings.cheater} cheats: {cheat}\n')
        line, started = TaskLine(out, name_of(state.settings)), time.monotonic()
        stages = Stages(started)

        def note(event: Event) -> None:
            stages.note(event)
            line.show(event)

        def begin_again(why: str) -> None:
            nonlocal line, stages, started
            line.close()
            out.say(why)
            line, started = TaskLine(out, name_of(state.settings)), time.monotonic()
            stages = Stages(started)

        loras = [str(write_stray_lora(stack.folder / "stray.safetensors"))] if state.settings.cheat == LORA else []
        spec = await client.spec(demo.prompt, model=state.model, seed=demo.seed, loras=loras)
        try:
            verdict = await commit_fraud(chain, client, state, spec, note=note, say=begin_again)
        finally:
            line.close()
    spans = stages.durations(time.monotonic() - started)
    path = verdict.result.image.save(demo.output)
    gains = {name: format_amount(Wei(change)) for name, change in verdict.moved.items() if change > 0}
    document = describe(state, demo, verdict.result, path, gains, verdict.conserved, spans)
    document["claimed_over"] = claimed_over(stack, state, verdict.result)
    document["audit"] = audit_document(state, verdict)
    print_verdict(out, state, verdict)
    out.say(spans_text(spans))
    return document


class Stages:
    """When each stage was reached, by this machine's clock."""

    _ORDER = ("submitted", "claimed", "step", "committed", "fetched", "settled")

    def __init__(self, started: float) -> None:
        self._started = started
        self._at: dict[str, float] = {}

    def note(self, event: Event) -> None:
        """The last step counts, the first of everything else."""
        if event.kind == "step" or event.kind not in self._at:
            self._at[event.kind] = time.monotonic()

    def durations(self, total_s: float) -> dict[str, float]:
        """Seconds spent in each stage."""
        at = self._at
        submitted = at.get("submitted", self._started)
        claimed = at.get("claimed", submitted)
        committed = at.get("committed", claimed)
        executed = min(max(at.get("step", committed), claimed), committed)
        spans = {
            "submit": submitted - self._started,
            "claim": claimed - submitted,
            "execute": executed - claimed,
            "commit": committed - executed,
            "settle": at.get("settled", committed) - committed,
            "fetch": max(0.0, at.get("fetched", committed) - committed),
            "total": total_s,
        }
        if (opened := at.get("audit-opened")) is not None:
            closed = at.get("audit-closed", opened)
            spans["audit"] = closed - committed
            if (over := at.get("dispute-executed")) is not None:
                spans["dispute"] = over - closed
        return {name: round(span, 3) for name, span in spans.items()}


def describe(
    state: StackState,
    demo: Demo,
    result: Result,
    path: Path,
    gains: dict[str, str],
    conserved: bool,
    stages_s: dict[str, float],
) -> dict[str, Any]:
    """The document that `--json` prints; `sha256` is of the file at `image`."""
    receipt = result.receipt
    gas = {step: entry.gas_used for step, entry in receipt.transactions.items()}
    return {
        "image": str(path),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "task_id": str(receipt.task),
        "prompt": demo.prompt,
        "seed": result.image.seed,
        "model": receipt.model,
        "node": str(receipt.node),
        "executor": receipt.executor,
        "stages_s": stages_s,
        "gas": {step: gas.get(step) for step in ("submit", "claim", "commit", "settle")},
        "fee": format_amount(receipt.fee),
        "credits": gains,
        "conserved": conserved,
        "chain": state.chain,
        "audit": receipt.audit.model_dump(mode="json"),
    }


def claimed_over(stack: Stack, state: StackState, result: Result) -> str | None:
    """Over what the node that claimed the task first heard of it, by its own log: libp2p gossip, or the chain."""
    receipt = result.receipt
    names = [name for name, ready in state.details.items() if ready.get("wallet") == str(receipt.node)]
    for name in names:
        for line in stack.supervisor.log_of(name).read_text(errors="replace").splitlines():
            if str(receipt.task) in line and '"task.heard"' in line:
                over = json.loads(line).get("over")
                return "libp2p" if over == "gossip" else str(over)
    return None


def spans_text(spans: dict[str, float]) -> str:
    """How long each stage took, in lines that fit a small terminal."""
    told = [f"{name} {span:.2f} s" for name, span in spans.items()]
    lines = [" · ".join(told[at : at + 4]) for at in range(0, len(told), 4)]
    return "stages    " + "\n          ".join(lines)


def _print_receipt(out: Output, state: StackState, document: dict[str, Any], result: Result, conserved: bool) -> None:
    receipt = result.receipt
    out.say("")
    out.say(f"picture   {document['image']}")
    out.say(receipt.summary())
    out.say(f"spec      {receipt.spec}")
    out.say(f"its root  {receipt.result_root}")
    out.say(f"trace     {receipt.trace_root}")
    out.say(f"seed      {document['seed']}")
    names = name_of(state.settings)
    for account, amount in document["credits"].items():
        who = names.get(Address(account)) or role_of(state, Address(account))
        out.say(f"credit    {who:<10} +{amount}")
    out.say(spans_text(document["stages_s"]))
    out.say(
        f"ledger    {'balances to the wei ' + out.mark(True) if conserved else 'DOES NOT BALANCE ' + out.mark(False)}"
    )


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The demo's own options."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description="One paid picture on a network of your own.")
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout")
    chains, engines = ("auto", "anvil", "embedded"), ("auto", "fake", "diffusers")
    parser.add_argument("--chain", choices=chains, default="auto", help="auto: anvil if it is installed, else embedded")
    parser.add_argument("--executor", choices=engines, default="auto", help="fake draws a marked stand-in picture")
    parser.add_argument("--prompt", default=PROMPT, help="what the picture shows")
    parser.add_argument("--seed", type=int, default=SEED, help="same seed, same picture")
    parser.add_argument("--nodes", type=int, default=3, help="how many, 1 to 32")
    scenes = parser.add_mutually_exclusive_group()
    scenes.add_argument("--train", action="store_true", help="two users: one has a LoRA trained and sells it")
    scenes.add_argument("--cheat", metavar="NAME", help="one node cheats: " + ", ".join(CHEATS))
    parser.add_argument("--watchers", type=int, help="nodes that only audit and judge; 3 with --cheat, else none")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the picture goes")
    parser.add_argument("--keep", action="store_true", help="leave the network up, for gesso devnet and gesso generate")
    return parser.parse_args(argv)


async def play(options: argparse.Namespace, home: Path, out: Output) -> dict[str, Any]:
    """Up, one task, down."""
    stack = Stack(home)
    began = time.monotonic()
    if options.cheat is not None:
        choose_cheat(options.cheat)
    expect_sense(options)
    settings = wanted_stack(
        nodes=options.nodes,
        watchers=(3 if options.cheat else 0) if options.watchers is None else options.watchers,
        cheat=options.cheat,
        chain=options.chain,
        executor=options.executor,
    )
    state = await stack.up(settings, out.say)
    try:
        out.say(f"ready after {time.monotonic() - began:.1f} s")
        act = run_lesson if options.train else run_task if options.cheat is None else run_fraud
        document = await act(stack, state, Demo(options.prompt, options.seed, options.output), out)
    except BaseException:
        stack.down()
        raise
    if options.keep:
        out.say(f"\nthe network stays up; look at it: {state.network.relay_url}")
        program = gesso_program()
        out.say(f'use it:  {program} generate "a yellow ring on a blue background" -o ring.png')
        out.say(f"stop it: {program} devnet down")
    else:
        stopped = stack.down()
        out.say(f"\nstopped {', '.join(stopped)}")
    return document


def expect_sense(options: argparse.Namespace) -> None:
    """What the network would refuse is said before one is started. Raises SpecInvalid, UsageError."""
    check_output(options.output, OUTPUT.name)
    if not options.prompt.strip():
        raise UsageError("the prompt is empty", hint="see: scripts/demo --help")
    ordered = {"prompt": options.prompt, "seed": options.seed, "model": DEFAULT_MODEL}
    make_spec(ordered | {"width": SIDE_PX, "height": SIDE_PX, "steps": 1})


def gesso_program() -> str:
    """How the program is called from here: by its name where a shell finds it, else by its path."""
    beside = Path(sys.executable).with_name("gesso")
    found = shutil.which("gesso")
    if found is not None and Path(found).samefile(beside):
        return "gesso"
    return str(beside.relative_to(Path.cwd()) if beside.is_relative_to(Path.cwd()) else beside)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code; interrupted or failed, nothing is left running."""
    options = arguments(argv)
    out = Output("json" if options.json else "human")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="gesso-demo-", ignore_cleanup_errors=True) as folder:
        home = home_folder() if options.keep else Path(folder)
        try:
            document = anyio.run(play, options, home, out)
        except KeyboardInterrupt:
            out.say("\ninterrupted; everything is stopped")
            return 130
        except (GessoError, BaseExceptionGroup) as error:
            found = known_failure(error, {})
            if found is None:
                raise
            out.say(f"error: {found.message}\n  {found.hint}")
            return found.exit_code
    if options.json:
        out.result(document)
    return 0 if document["conserved"] and document.get("audit", {}).get("caught", True) else 5


if __name__ == "__main__":
    sys.exit(main())
