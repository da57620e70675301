"""Runs a node until its task is settled, and is killed at one journal write. A process of its own, because SIGKILL is.

`victim.py FOLDER`: for each write of a whole life of a task, before and after it, a fresh world is made and a fork of
this process is killed there for real; a second fork goes on with what is left on disk. Prints one line of JSON a kill.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import anyio

from gesso.blobs import LocalBlobs
from gesso_node.executors.fake import FakeExecutor
from gesso_node.peer import Node
from gesso_node.settings import NodeSettings
from gesso_node.state.journal import Journal
from gesso_protocol.spec import TextToImage, spec_bytes

sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "node"))
from doubles import BoardDouble, ChainDouble, node_address

SPEC = TextToImage(prompt="a red circle", model="sample@1", width=64, height=64, steps=3, seed=7)
ME = node_address(1)
MAX_TURNS = 60


class Fuse:
    """Ends this process by SIGKILL at write number `at`; -1 never. Remembers the labels it saw."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.seen: list[str] = []

    def __call__(self, label: str, when: str) -> None:
        if len(self.seen) == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.seen.append(f"{label}/{when}")


async def make_world(folder: Path) -> None:
    folder.mkdir(parents=True)  # noqa: ASYNC240  (nothing else runs here)
    await LocalBlobs(folder / "blobs").put(spec_bytes(SPEC))
    board = BoardDouble(path=folder / "board.json")
    board.add_listing()
    board.weights[ME] = 1
    board.submit(SPEC)
    board.mine()


async def live(folder: Path, fuse: Fuse) -> None:
    """Turn until everything is over on the board and in the journal."""
    board = BoardDouble.load(folder / "board.json")
    settings = NodeSettings.verified(
        {"data_dir": folder / "node", "transport": {"enabled": False}, "resend_after_s": 4}
    )
    chain = ChainDouble(board, ME).as_chain()
    with anyio.fail_after(60):
        async with Node.open(
            settings, chain=chain, blobs=LocalBlobs(folder / "blobs"), executor=FakeExecutor(), on_write=fuse
        ) as node:
            for _ in range(MAX_TURNS):
                await node.once()
                await node.quiesce()
                board.mine()
                state = next(iter(board.tasks.values())).state
                if state.terminal and not (await node.status()).open_tasks:
                    return
    raise SystemExit(3)


def in_fork(folder: Path, at: int) -> tuple[int, list[str]]:
    """Live in a fork; its exit (negative: signal) and the labels of the writes it came to."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        fuse = Fuse(at)
        try:
            anyio.run(live, folder, fuse)
            os.write(write, json.dumps(fuse.seen).encode())
            os._exit(0)
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(2)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), json.loads(said) if said else []


async def what_is_left(folder: Path) -> dict[str, Any]:
    board = BoardDouble.load(folder / "board.json")
    async with Journal(folder / "node" / "journal.sqlite") as journal:
        earned = await journal.earned()
        still_open = len(await journal.open_entries())
    return {
        "state": next(iter(board.tasks.values())).state.name,
        "verbs": [f"{verb}:{how}" for verb, _, how in board.attempts],
        "balance": board.balances.get(ME, 0),
        "earned": int(earned),
        "open": still_open,
    }


def main(folder: Path) -> None:
    anyio.run(make_world, folder / "plain")
    ended, labels = in_fork(folder / "plain", -1)
    print(json.dumps({"at": -1, "label": "", "ended": ended, **anyio.run(what_is_left, folder / "plain")}), flush=True)
    for at, label in enumerate(labels):
        place = folder / f"kill-{at}"
        anyio.run(make_world, place)
        killed, _ = in_fork(place, at)
        again, _ = in_fork(place, -1)
        line = {"at": at, "label": label, "killed": killed, "ended": again, **anyio.run(what_is_left, place)}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
