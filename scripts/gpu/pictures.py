"""The real engine from end to end: pictures of a CPU and of a GPU, each audited on the other, honest or not."""

from __future__ import annotations

import io
import itertools
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import numpy as np
from PIL import Image

from gesso.chain.arbiter import Filing
from gesso.tensorfile import write_tensors
from gesso_devnet import model
from gesso_node.auditing.assignment import Assignment
from gesso_node.auditing.inspect import Files, Inspector, Redone, inspect
from gesso_node.executors.cheats import ENGINE_CHEATS
from gesso_node.executors.port import Job
from gesso_node.executors.trace import RecordedTrace
from gesso_node.traces.opened import Own
from gesso_protocol.audit.bundle import Bundle
from gesso_protocol.audit.rules import AuditRules
from gesso_protocol.audit.verdict import Verdict, judge
from gesso_protocol.fields import UsedAdapter
from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import Address, BlobRef, Root, TaskId
from gesso_protocol.money import Wei
from gesso_protocol.spec import TextToImage, make_spec, spec_ref
from gesso_protocol.terms import Terms
from gesso_protocol.trace import Binding, LeafKind, Run, Slot, trace_root
from gpu.common import Here, Section

BASE, LORA = BlobRef.of(b"the base"), BlobRef.of(b"the adapter")
BOARD, NODE = Address("0x" + "b0" * 20), Address("0x" + "0d" * 20)
SCHEDULERS = ("ddim", "euler", "euler_a", "dpmpp_2m")
PROMPTS = ("a big red circle in the centre on a yellow background", "a white background with a purple ring")
ADAPTED = ("to_q", "to_k", "to_v", "to_out.0")


@dataclass(frozen=True)
class Sold:
    """A task as its node opens it."""

    assignment: Assignment
    own: Own
    png: bytes

    @property
    def opened(self) -> Bundle:
        layout = self.own.trace.layout
        data = Bundle.encode(self.own.leaves(tuple(layout.slots())), self.own.tree, layout)
        return Bundle.decode(data, self.assignment.run, layout, self.assignment.filing.trace_root)

    def leaf(self, kind: LeafKind, step: int = 0) -> bytes:
        return self.own.trace.bytes_of(Slot(kind, 0, step))

    @property
    def pixels(self) -> Any:
        return np.asarray(Image.open(io.BytesIO(self.png)).convert("RGB"), np.int16)


class Cache:
    """Folders by what they are called here."""

    def __init__(self, folders: dict[BlobRef, Path]) -> None:
        self._folders = folders

    def path(self, ref: BlobRef) -> Path:
        return self._folders[ref]

    @asynccontextmanager
    async def held(self, ref: BlobRef, **_: object) -> AsyncIterator[Path]:
        yield self._folders[ref]


class Market:
    """Sells tasks on any machine, and has them audited on any other."""

    def __init__(self, folder: Path, lora: Path) -> None:
        self._folder = folder
        self._lora = lora
        self._cache: Any = Cache({BASE: model.path(), LORA: lora})
        self._numbers = itertools.count()

    def sell(self, seller: Here, spec: TextToImage) -> Sold:
        number = next(self._numbers)
        task = TaskId(keccak256(b"task" + number.to_bytes(4, "big")))
        binding = Binding(31337, BOARD, task, NODE, bytes(32))
        out = self._folder / f"task{number}"
        loras = (self._lora,) if spec.loras else ()
        done = anyio.run(lambda: seller.run(Job(spec, model.path(), out, 600.0, BASE, binding, loras), on_event=None))
        trace = RecordedTrace.read(out, spec)
        tree = tuple(trace.leaves(binding))
        windows = {"claim_window_s": 60, "commit_window_s": 60}
        terms = Terms(requester=NODE, fee=Wei(10**16), spec=spec_ref(spec), nonce=1, **windows)
        filing = Filing(terms, NODE, Root(bytes(31) + b"\1"), trace_root(tree))
        drawn = keccak256(b"challenge" + number.to_bytes(4, "big"))
        assignment = Assignment(Run(31337, BOARD, task, NODE), filing, spec, BASE, drawn, AuditRules())
        return Sold(assignment, Own(None, trace, binding, tree), done.images[0].path.read_bytes())

    def audit(self, auditor: Here, sold: Sold, *, strict: bool = False) -> Verdict:
        """As an auditor's node does it, or a juror's, once everything is open."""
        look = Inspector(auditor, self._cache, needs_model=True)
        return anyio.run(lambda: self._audited(look, sold, strict))

    async def _audited(self, look: Inspector, sold: Sold, strict: bool) -> Verdict:
        about, opened, more = sold.assignment, sold.opened, {"strict": strict, "deadline_s": 600.0}
        ground = await look.ground(about, **more)
        redone = await look.steps(about, ground, opened, about.checks, **more)
        rgb = await look.decode(about, ground, opened, **more)
        files = Files(None, {0: sold.png})
        found = judge(inspect(about, ground, redone, opened, rgb, files, strict=strict))
        if not found.recheck:
            return found
        again = await look.steps(about, ground, opened, found.recheck[:3], **more)
        wider = Redone({**redone.outputs, **again.outputs}, redone.wrong or again.wrong)
        return judge(inspect(about, ground, wider, opened, rgb, files, strict=strict))


def main(section: Section) -> None:
    """Everything, the most telling first."""
    with tempfile.TemporaryDirectory(prefix="gesso-gpu-") as name:
        folder = Path(name)
        cpu, gpu = Here("cpu", threads=2, max_loaded=4), Here(section.device, max_loaded=4)
        other = Here(section.device, max_loaded=4, kernels={"attention": "math", "split_guidance": True})
        market = Market(folder, random_adapter(cpu.unet(), folder / "lora"))
        schedulers = SCHEDULERS[:1] if section.quick else SCHEDULERS
        for scheduler, lora in itertools.product(schedulers, (False, True)):
            with section.tried(f"{scheduler}, LoRA {lora}"):
                same_seed(section, market, cpu, gpu, ordered(scheduler, lora=lora))
        for dtype, scheduler in itertools.product(("fp16", "bf16"), schedulers):
            with section.tried(f"{dtype}, {scheduler}"):
                narrow(section, market, (gpu, other, cpu), ordered(scheduler, dtype=dtype))
        for cheat in list(ENGINE_CHEATS)[:2] if section.quick else ENGINE_CHEATS:
            with section.tried(cheat):
                cheated(section, market, cpu, cheat)


def told(verdicts: dict[str, Verdict]) -> dict[str, object]:
    """What each auditor and juror said, and the first reasons of all of them."""
    said = {who: f"{found.decision.value} {found.max_error_of_limit:.2g}" for who, found in verdicts.items()}
    return {**said, "reasons": [str(reason) for found in verdicts.values() for reason in found.reasons][:4]}


def same_seed(section: Section, market: Market, cpu: Here, gpu: Here, spec: TextToImage) -> None:
    """One order on both machines; each is then audited, and judged by strict jurors, on the other."""
    mine, theirs = market.sell(cpu, spec), market.sell(gpu, spec)
    apart = np.abs(mine.pixels - theirs.pixels)
    verdicts = {
        "cpu audits gpu": market.audit(cpu, theirs),
        "gpu audits cpu": market.audit(gpu, mine),
        "cpu juror on gpu": market.audit(cpu, theirs, strict=True),
        "gpu juror on cpu": market.audit(gpu, mine, strict=True),
    }
    section.add(
        what=f"{spec.scheduler}{', LoRA' if spec.loras else ''}",
        same_noise=mine.leaf(LeafKind.NOISE) == theirs.leaf(LeafKind.NOISE),
        pixels_max=int(apart.max()),
        pixels_mean=float(apart.mean()),
        **told(verdicts),
    )


def narrow(section: Section, market: Market, machines: tuple[Here, Here, Here], spec: TextToImage) -> None:
    """A task in few bits from the GPU, audited on other kernels, on a CPU, and by jurors in strict fp32."""
    gpu, other, cpu = machines
    sold = market.sell(gpu, spec)
    verdicts = {
        "other kernels": market.audit(other, sold),
        "cpu": market.audit(cpu, sold),
        "cpu juror": market.audit(cpu, sold, strict=True),
        "gpu juror": market.audit(gpu, sold, strict=True),
    }
    section.add(
        what=f"{spec.dtype} {spec.scheduler}",
        **told(verdicts),
    )


def cheated(section: Section, market: Market, cpu: Here, cheat: str) -> None:
    """One cheat on the GPU in each dtype and two samplers, audited on a CPU."""
    files = {"early_unet": model.early_unet_path()}
    seller = Here(section.device, cheat=cheat, cheat_files=files, max_loaded=4)
    found: dict[str, list[str]] = {}
    for dtype, scheduler in itertools.product(("fp32", "fp16", "bf16"), ("ddim", "dpmpp_2m")):
        spec = ordered(scheduler, dtype=dtype, lora=cheat == "missing-lora")
        verdict = market.audit(cpu, market.sell(seller, spec))
        found.setdefault(dtype, []).append(f"{verdict.decision.value} {verdict.max_error_of_limit:.3g}")
    section.add(what=f"cheat {cheat}", **{dtype: ", ".join(said) for dtype, said in found.items()})


def ordered(scheduler: str, *, dtype: str = "fp32", lora: bool = False) -> TextToImage:
    fields: dict[str, Any] = {"prompt": PROMPTS[lora], "model": "gesso-tiny@1", "width": 64, "height": 64, "steps": 12}
    fields |= {"guidance": 3.0, "scheduler": scheduler, "seed": 77, "dtype": dtype}
    spec: Any = make_spec(fields)
    return spec.model_copy(update={"loras": (UsedAdapter(manifest=LORA),)}) if lora else spec


def random_adapter(unet: Any, folder: Path) -> Path:
    """A LoRA of rank 8 on the denoiser's attention, strong enough to be seen."""
    rng = np.random.default_rng(7)
    rows: list[Any] = []
    for name, module in unet.named_modules():
        if name.endswith(ADAPTED):
            outer, inner = module.weight.shape
            for side, shape in (("A", (8, inner)), ("B", (outer, 8))):
                numbers = rng.standard_normal(shape, np.float32) / 20
                rows.append((f"unet.{name}.lora_{side}.weight", "F32", shape, numbers.tobytes()))
    folder.mkdir()
    write_tensors(folder / "adapter.safetensors", rows)
    return folder
