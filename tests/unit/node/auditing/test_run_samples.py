"""The sample pictures of a training before auditor and juror: one is drawn again, whatever the file holds."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gesso_node.auditing.stranger import pixels_of
from gesso_node.auditing.trainings import TrainingWork
from gesso_node.auditing.work import Finding
from gesso_node.executors.fake import FakeEngine
from gesso_node.executors.lora.fake_trainer import FakeTrainer
from gesso_node.executors.lora.port import TrainingInputs
from gesso_node.executors.lora.trainer import Trainer
from gesso_protocol.audit.outcomes import Ballot
from gesso_protocol.audit.verdict import Decision, vote
from gesso_protocol.ids import BlobRef
from gesso_protocol.result import ResultManifest
from gesso_protocol.training.samples import sample_to_check

from .runs import Run, train

pytestmark = pytest.mark.anyio
PROMPTS = ("a zbx", "a green zbx", "two of them")


async def looked(run: Run, result: ResultManifest | None, *, strict: bool = False) -> tuple[Finding, TrainingWork]:
    assignment, answers = await run.answers()
    work = run.work(assignment, answers, result=result)
    await work.ready(seconds=60)
    return await work.examine(await work.opened("outputs", 60), None, strict=strict, seconds=60), work


def drawn(run: Run) -> int:
    return sample_to_check(run.assignment.challenge, run.assignment.spec).number


async def with_picture(run: Run, data: bytes) -> ResultManifest:
    """The result, had its node bound this file as the sample that is drawn."""
    blob = await run.blobs.put(data)
    return with_entry(run, blob=blob)


def with_entry(run: Run, **fields: Any) -> ResultManifest:
    images = [one.model_copy(update=fields) if one.index == drawn(run) else one for one in run.result.images]
    return run.result.model_copy(update={"images": tuple(images)})


def file(side: int, colour: tuple[int, int, int] = (0, 0, 0), form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(buffer, form)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def claiming(side: int, pixels: bytes) -> bytes:
    """A PNG that says it has so many pixels, and then these."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(pixels, 9)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("prompts", [(), PROMPTS])
async def test_an_honest_sample_is_drawn_again_to_the_bit(prompts: tuple[str, ...], tmp_path: Path) -> None:
    run = await train(tmp_path, sample_prompts=prompts)
    for strict in (False, True):
        finding, _ = await looked(run, run.result, strict=strict)
        assert (finding.verdict.decision, finding.verdict.reasons) == (Decision.PASS, ())


async def test_another_picture_is_proof_and_only_the_drawn_one_is_looked_at(tmp_path: Path) -> None:
    run = await train(tmp_path, sample_prompts=PROMPTS)
    swapped = await with_picture(run, file(64, (3, 250, 4)))
    finding, work = await looked(run, swapped)
    assert str(finding.verdict.reasons[0]).startswith("sample: the drawn sample is off by ")
    assert (finding.verdict.decision, finding.verdict.slashable) == (Decision.FLAG, True)
    assert vote((await looked(run, swapped, strict=True))[0].verdict) is Ballot.BAD
    assert swapped.adapter is not None
    needed = {swapped.ref, swapped.adapter, swapped.images[drawn(run)].blob}
    assert needed <= set(work._results.seen), "what a juror needs to see it too"


@pytest.mark.parametrize("data", [
    b"", b"no picture", file(32), file(64, form="JPEG"), file(64)[:80], claiming(64, b""), claiming(20_000, b""),
    claiming(64, bytes(64 << 20)), claiming(64, b"\xff" * 1000),
], ids=["empty", "text", "small", "jpeg", "cut off", "no pixels", "bomb", "pixels to spare", "filters"])  # fmt: skip
async def test_a_file_that_is_no_sample_is_proof_and_nobody_falls_over(data: bytes, tmp_path: Path) -> None:
    run = await train(tmp_path, steps=3)
    finding, _ = await looked(run, await with_picture(run, data))
    assert finding.verdict.decision is Decision.FLAG
    assert finding.verdict.reasons[0].fault == "sample"


@pytest.mark.parametrize(
    "kind", [b"iCCP", b"acTL", b"fcTL", b"fdAT", b"tRNS", b"gAMA", b"zTXt", b"iTXt", b"eXIf", b"PLTE", b"IHDR"]
)
def test_no_chunk_of_a_stranger_s_picture_makes_its_reader_fall_over(kind: bytes) -> None:
    whole = claiming(8, bytes(8 * 25))
    ends = whole.index(b"IDAT") - 4, len(whole) - 12
    for at in ends:  # before the pixels, and behind them, where decoders translate nothing
        for size in (0, 1, 2, 5, 8, 26):
            for fill in (b"\0", b"\xff", b"a"):
                found = pixels_of(whole[:at] + chunk(kind, fill * size) + whole[at:], 8, 8)
                assert found in (None, bytes(8 * 8 * 3)), (at, size, fill)
    assert pixels_of(whole, 8, 8) == bytes(8 * 8 * 3)


async def test_a_sample_that_is_near_is_in_doubt_and_slashes_nobody(tmp_path: Path) -> None:
    """What a whole picture may differ by between machines is known of small bases only."""
    run = await train(tmp_path, steps=3)
    own = run.own.trace.folder / f"image-{drawn(run)}.png"
    with Image.open(own) as picture:
        red, green, blue = picture.getpixel((0, 0))  # type: ignore[misc]
    near = [
        (red, green ^ 2, blue),
        (red, green ^ 16, blue),
        (red, green ^ 32, blue),
    ]  # by 2/3, 16/3 and 32/3 of a level
    for colour, decision, ballot in zip(
        near, (Decision.PASS, Decision.FLAG, Decision.FLAG), (Ballot.GOOD, Ballot.CANNOT_TELL, Ballot.BAD), strict=True
    ):
        finding, _ = await looked(run, await with_picture(run, file(64, colour)), strict=True)
        assert (finding.verdict.decision, vote(finding.verdict)) == (decision, ballot)
        assert finding.verdict.slashable == (ballot is Ballot.BAD)


@pytest.mark.parametrize("fields", [{"seed": 77}, {"width": 65}, {"height": 63}])
async def test_a_sample_of_another_seed_or_size_is_exact_proof(fields: dict[str, int], tmp_path: Path) -> None:
    run = await train(tmp_path, steps=3)
    finding, _ = await looked(run, with_entry(run, **fields))
    assert str(finding.verdict.reasons[0]) == "adapter: the result has other samples than were ordered"
    assert finding.verdict.slashable


async def test_a_picture_that_nobody_has_is_said_and_a_juror_cannot_tell(tmp_path: Path) -> None:
    run = await train(tmp_path, steps=3)
    for result, why in ((with_entry(run, blob=BlobRef(bytes(32))), "nobody has it"), (None, "nobody has the result")):
        finding, _ = await looked(run, result)
        assert finding.verdict.decision is Decision.PASS
        assert str(finding.verdict.reasons[0]) == f"sample: no sample was drawn again: {why}"
        assert vote((await looked(run, result, strict=True))[0].verdict) is Ballot.CANNOT_TELL


class Lame(FakeTrainer):
    """Draws nothing."""

    def sample(self, prompt: str, seed: int) -> tuple[int, int, bytes]:
        raise MemoryError("no room for a picture")


class LameEngine(FakeEngine):
    def trainer(self, inputs: TrainingInputs, *, strict: bool = False) -> Trainer:
        return Lame(inputs)


async def test_a_machine_that_cannot_draw_blames_nobody(tmp_path: Path) -> None:
    run = await train(tmp_path, steps=3, looks=LameEngine())
    finding, _ = await looked(run, run.result)
    assert finding.verdict.decision is Decision.PASS
    assert "no room for a picture" in str(finding.verdict.reasons[0])
    assert vote((await looked(run, run.result, strict=True))[0].verdict) is Ballot.CANNOT_TELL
