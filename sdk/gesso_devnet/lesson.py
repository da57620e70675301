"""A lesson: Alice has a LoRA trained, uses it, sells it; Bob uses what she sells and trains on from it.

Two users with a wallet each type what users type, `gesso train`, `gesso generate`, `gesso model publish`, against a
network of real processes; what they typed is shown, and at the end who earned what.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from PIL import Image as Picture
from PIL import ImageDraw

from gesso.chain.chain import Chain
from gesso.chain.settings import ChainSettings
from gesso.chain.wallet import Wallet
from gesso.cli.output import Output
from gesso.client import AsyncClient
from gesso.image import Image
from gesso.settings import Settings, write_network
from gesso_devnet import ledger
from gesso_devnet.chain.accounts import known_accounts
from gesso_devnet.chain.funding import Funds, fund
from gesso_devnet.fraud import name_of, role_of, signed
from gesso_devnet.stack import NETWORK, PASSWORD, Stack, StackState
from gesso_devnet.world.concept import write_photos
from gesso_protocol.errors import TaskFailed
from gesso_protocol.ids import Address, TaskId
from gesso_protocol.money import format_amount

WORD = "zbx"
"""A made-up word, for a colour that the base has never seen."""
LISTED = f"alice/{WORD}"
SHAPES = {"circle": "green", "square": "yellow", "triangle": "black"}
PROMPTS = tuple(f"a {WORD} {shape} on a {ground} background" for shape, ground in SHAPES.items())
SEED = 7
PHOTOS, MORE_PHOTOS = 15, 6
STEPS, MORE_STEPS = 300, 20
RUN_WINDOW_S = 480.0
CELL_PX, MARGIN_PX, LINE_PX = 160, 8, 18


@dataclass(frozen=True, slots=True)
class User:
    """Somebody with a folder of settings and a wallet of their own."""

    name: str
    home: Path
    work: Path
    address: Address

    async def types(self, out: Output, *words: str) -> str:
        """Run one command line as this user; its talk goes where ours goes. Returns what it printed on stdout."""
        out.say(f"\n{out.bold(f'{self.name}$')} gesso {shlex.join(words)}")
        command = [sys.executable, "-m", "gesso.cli", *words]
        environ = {**os.environ, "GESSO_HOME": str(self.home), "GESSO_NETWORK": NETWORK, "TMPDIR": str(self.work)}
        environ["GESSO_NO_HINTS"] = "1"  # what to do next is what the demo shows
        with anyio.fail_after(RUN_WINDOW_S):
            code, printed = await _run(command, self.work, environ)
        for line in printed.splitlines():
            out.say(f"  {line}")
        if code:
            raise TaskFailed(f"`gesso {words[0]}` ended with {code}", hint="see why: gesso devnet logs")
        return printed


async def _run(command: Sequence[str], folder: Path, environ: Mapping[str, str]) -> tuple[int, str]:
    """Exit code and what was printed. Nobody is there to answer questions; and when we stop, it does."""
    nobody = subprocess.DEVNULL
    async with await anyio.open_process(command, cwd=folder, env=environ, stdin=nobody, stderr=None) as process:
        assert process.stdout is not None
        try:
            printed = b"".join([part async for part in process.stdout])
            return await process.wait(), printed.decode(errors="replace")
        except BaseException:
            process.kill()
            raise


@dataclass(frozen=True, slots=True)
class Lesson:
    """How it went. `moved` is what each name gained or lost on the whole, in base units."""

    grid: Path
    files: dict[str, Path]
    tasks: tuple[TaskId, ...]
    moved: dict[str, int]
    royalties: tuple[tuple[str, str, int], ...]
    """Who earned them, of which listing, how much."""
    conserved: bool


async def give_lesson(stack: Stack, state: StackState, output: Path, out: Output) -> Lesson:
    """The five lines, with a look at the same prompts before and after. Raises TaskFailed, and what the SDK raises."""
    alice, bob = await _users(stack, state)
    everyone = (*state.settings.cast().addresses, bob.address)
    write_photos(alice.work / "photos", WORD, PHOTOS, seed=5)
    write_photos(bob.work / "more", WORD, MORE_PHOTOS, seed=6)
    chain_settings = ChainSettings(rpc_url=state.network.rpc_url, contracts=state.network.contracts)
    async with Chain.open(chain_settings) as chain:
        before = await ledger.take(chain, everyone)
        out.say(f"\n{PHOTOS} pictures of things in a colour that {state.model} has never seen, called {WORD!r}")
        out.say(f"first {len(PROMPTS)} prompts as the base draws them, to compare with …")
        async with AsyncClient(_settings(alice)) as client:
            plain = await _draw(client, loras=())
        await _type_all(alice, bob, state, out)
        out.say("\nand the same prompts with what she sells …")
        async with AsyncClient(_settings(alice)) as client:
            taught = await _draw(client, loras=(f"{LISTED}@1",))
            tasks = await _settled(client)
        async with AsyncClient(_settings(bob)) as client:
            tasks += await _settled(client)
            owners = {"alice": alice.address, "publisher": state.settings.cast().publisher.address}
            royalties = await _royalties(client, owners)
        after = await ledger.take(chain, everyone)
        conserved = ledger.conserved(before, after) and await ledger.backed(chain, after)
    names = {**name_of(state.settings), alice.address: "alice", bob.address: "bob"}
    moved = {names.get(who, role_of(state, who)): change for who, change in ledger.changes(before, after).items()}
    files = {name: _kept(source, output) for name, source in _results(alice, bob).items()}
    return Lesson(write_grid(plain, taught, output), files, tuple(tasks), moved, royalties, conserved)


async def _royalties(client: AsyncClient, owners: Mapping[str, Address]) -> tuple[tuple[str, str, int], ...]:
    """What each owner's listings earned, from the chain's log."""
    statements = {name: await client.earnings(str(address)) for name, address in owners.items()}
    return tuple((name, label, amount) for name, found in statements.items() for label, amount in found.royalties)


async def _type_all(alice: User, bob: User, state: StackState, out: Output) -> None:
    base, lora = state.model.partition("@")[0], f"{WORD}.safetensors"
    run = ("train", "photos/", "--base", base, "--trigger", WORD, "--steps", str(STEPS), "--rank", "8")
    await alice.types(out, *run, "-o", lora)
    await alice.types(out, "generate", PROMPTS[0], "--lora", f"{lora}:0.8", "-o", "private.png")
    await alice.types(out, "model", "publish", lora, "--name", LISTED, "--license", "openrail++", "--royalty", "5%")
    await bob.types(out, "wallet", "deposit", "100", "--yes")
    await bob.types(out, "generate", PROMPTS[1], "--lora", f"{LISTED}@1", "-o", "bought.png")
    further = ("--continue", f"{LISTED}@1", "--trigger", WORD, "--steps", str(MORE_STEPS), "--rank", "8")
    await bob.types(out, "train", "more/", "--base", base, *further, "-o", "better.safetensors")


def print_lesson(out: Output, lesson: Lesson) -> None:
    """What came of it, who earned what, and whether the books balance."""
    out.say("")
    out.say(f"pictures  {lesson.grid}   (above: before, below: with the LoRA)")
    for name, path in lesson.files.items():
        out.say(f"{name:<9} {path}")
    for name, label, amount in lesson.royalties:
        out.say(f"royalties {name:<10} {signed(amount)} of {label}")
    for name, change in sorted(lesson.moved.items(), key=lambda entry: -entry[1]):
        out.say(f"moved     {name:<10} {signed(change)}")
    balance = "balances to the wei" if lesson.conserved else "DOES NOT BALANCE"
    out.say(f"ledger    {balance} over {len(lesson.tasks)} tasks {out.mark(lesson.conserved)}")


def lesson_document(state: StackState, lesson: Lesson) -> dict[str, Any]:
    """What `--train --json` prints; amounts in whole tokens."""
    return {
        "grid": str(lesson.grid),
        "files": {name: str(path) for name, path in lesson.files.items()},
        "listing": f"{LISTED}@1",
        "tasks": [str(task) for task in lesson.tasks],
        "moved": {name: signed(change) for name, change in lesson.moved.items()},
        "royalties": {label: {"to": name, "amount": format_amount(amount)} for name, label, amount in lesson.royalties},
        "conserved": lesson.conserved,
        "chain": state.chain,
        "executor": state.executor,
    }


def write_grid(before: Sequence[Image], after: Sequence[Image], path: Path) -> Path:
    """One picture: the prompts over two rows, before and after."""
    step = CELL_PX + MARGIN_PX
    size = (len(before) * step + MARGIN_PX, 2 * step + MARGIN_PX + LINE_PX)
    sheet = Picture.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    for column, pair in enumerate(zip(before, after, strict=True)):
        left = MARGIN_PX + column * step
        pen.text((left, 4), PROMPTS[column].removesuffix(" background"), fill="black")
        for row, image in enumerate(pair):
            cell = image.pil().convert("RGB").resize((CELL_PX, CELL_PX), Picture.Resampling.NEAREST)
            sheet.paste(cell, (left, LINE_PX + MARGIN_PX + row * step))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    return path


async def _users(stack: Stack, state: StackState) -> tuple[User, User]:
    accounts = known_accounts(4 + len(state.settings.names))
    alice = _user(stack, state, "alice", accounts[1].key)
    bob = _user(stack, state, "bob", accounts[-1].key)
    await fund(state.network.rpc_url, state.network.contracts, state.settings.cast().deployer, {bob.address: Funds()})
    return alice, bob


def _user(stack: Stack, state: StackState, name: str, key: bytes) -> User:
    home = stack.home / "users" / name
    shutil.rmtree(home, ignore_errors=True)
    (home / "work").mkdir(parents=True)
    write_network(home, state.network.model_copy(update={"wallet": name}))
    wallet = home / "wallets" / f"{name}.json"
    Wallet.create(wallet, PASSWORD, key=key, strength="light")
    wallet.with_suffix(".password").write_text(PASSWORD)
    return User(name, home, home / "work", Wallet.from_key(key).address)


def _settings(user: User) -> Settings:
    return Settings.load(network=NETWORK, environ={"GESSO_HOME": str(user.home)})


async def _draw(client: AsyncClient, loras: Sequence[str]) -> list[Image]:
    """A picture of each prompt, ordered at once."""
    images: dict[int, Image] = {}

    async def one(at: int) -> None:
        task = await client.submit(await client.spec(PROMPTS[at], seed=SEED + at, loras=list(loras)))
        images[at] = (await task.result(until="committed", timeout_s=RUN_WINDOW_S)).image

    async with anyio.create_task_group() as group:
        for at in range(len(PROMPTS)):
            group.start_soon(one, at)
    return [images[at] for at in sorted(images)]


async def _settled(client: AsyncClient) -> list[TaskId]:
    """Every task of this user, once it is paid for."""
    found = [row.task for row in await client.tasks(limit=100)]
    for task in found:
        await (await client.task(task)).result(until="settled", timeout_s=RUN_WINDOW_S)
    return found


def _results(alice: User, bob: User) -> dict[str, Path]:
    return {
        "lora": alice.work / f"{WORD}.safetensors",
        "private": alice.work / "private.png",
        "bought": bob.work / "bought.png",
        "better": bob.work / "better.safetensors",
    }


def _kept(source: Path, output: Path) -> Path:
    """A copy beside the grid: the users' folders go when the demo ends."""
    target = output.with_name(f"{output.stem}-{source.name}")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    return target
