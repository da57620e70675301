"""What happens when a GPU's memory ends, and how much of it a child holds: outcomes, never exceptions."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import anyio
import torch

from gesso_devnet import model
from gesso_node.executors.child import ChildExecutor
from gesso_node.executors.environment import ChildSettings
from gesso_node.executors.port import Job
from gesso_protocol.ids import Address, BlobRef, TaskId
from gesso_protocol.spec import make_spec
from gesso_protocol.trace import Binding
from gpu.common import Here, Section

LEFT_BYTES = 600 << 20
"""Enough for a child to open the GPU, and not for what it is asked to draw."""


def main(section: Section) -> None:
    with tempfile.TemporaryDirectory(prefix="gesso-gpu-") as name:
        folder = Path(name)
        with section.tried("evicted models"):
            evicted(section)
        for what, limit in (("no limit", 0), ("address space of 64 GiB", 64 << 30)):
            with section.tried(what):
                outcome = anyio.run(lambda limit=limit: drawn(section, folder, 64, limit))
                section.add(what=f"a child with {what}", outcome=kind(outcome), said=said(outcome))
        if section.device == "cuda":
            with section.tried("too large"):
                outcome = anyio.run(lambda: drawn(section, folder, 2048, 0, {"attention": "math"}))
                section.add(what="a picture that no GPU holds", outcome=kind(outcome), said=said(outcome))
            with section.tried("taken by others"):
                taken_by_others(section, folder)


def evicted(section: Section) -> None:
    """Memory after one model of four ways to load it replaced the other."""
    here = Here(section.device)
    held = []
    for dtype, strict in (("fp32", False), ("fp32", True), ("fp16", False), ("fp32", True)):
        here.engine._pipeline(model.path(), dtype, strict=strict)
        held.append(torch.cuda.memory_allocated() >> 20 if section.device == "cuda" else 0)
    section.add(what="MiB held by one model at a time", held=held)


def taken_by_others(section: Section, folder: Path) -> None:
    """Another program has nearly all of the GPU; then it goes, and the next task is drawn."""
    torch.zeros(1, device="cuda")
    free, _ = torch.cuda.mem_get_info()
    block = torch.empty(max(0, free - LEFT_BYTES), dtype=torch.uint8, device="cuda")
    outcome = anyio.run(lambda: drawn(section, folder, 512, 0, {"attention": "math"}))
    section.add(what="a GPU that others have taken", outcome=kind(outcome), said=said(outcome))
    del block
    torch.cuda.empty_cache()
    outcome = anyio.run(lambda: drawn(section, folder, 64, 0))
    section.add(what="the next task, with memory", outcome=kind(outcome), said=said(outcome))


async def drawn(section: Section, folder: Path, side: int, limit: int, kernels: dict[str, Any] | None = None) -> Any:
    """One picture by a child of its own."""
    spec: Any = make_spec({"prompt": "a star", "model": "gesso-tiny@1", "width": side, "height": side, "steps": 2,
                           "guidance": 3.0, "seed": 1})  # fmt: skip
    binding = Binding(1, Address("0x" + "11" * 20), TaskId(bytes(32)), Address("0x" + "22" * 20), bytes(32))
    job = Job(spec, model.path(), folder / f"out-{side}-{limit}", 300.0, BlobRef.of(b"memory"), binding)
    options = {"device": section.device, "kernels": kernels or {}}

    async def ignore(_: Any) -> None:
        return None

    settings = ChildSettings(options=options, memory_limit_bytes=limit)
    async with ChildExecutor("diffusers", folder / "home", settings) as executor:
        return await executor.run(job, on_event=ignore)


def kind(outcome: Any) -> str:
    return type(outcome).__name__


def said(outcome: Any) -> str:
    reason = getattr(outcome, "reason", "") or str(getattr(outcome, "profile", ""))
    return (reason + " " + getattr(outcome, "tail", "")[-300:]).strip()[:500]
