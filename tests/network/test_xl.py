"""A Stable Diffusion XL base from a folder to a LoRA and a picture that their buyer has checked, on the real engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from network_acts import PATIENCE_S
from PIL import Image

pytest.importorskip("peft")

from gesso_devnet import Devnet
from gesso_node.executors.sample_xl import write_xl_pipeline
from gesso_node.recheck import open_replayer

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
SMALL: dict[str, Any] = {
    "steps": 2, "checkpoint_every": 1, "batch": 1, "rank": 2, "alpha": 2, "resolution": 64, "bucket_step_px": 16,
    "text_encoder": True, "sample_every": 0, "sample_steps": 2,
}  # fmt: skip


async def test_xl_is_listed_trained_on_drawn_with_and_checked_again(tmp_path: Path) -> None:
    folder = await anyio.to_thread.run_sync(write_xl_pipeline, tmp_path / "xl")
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, colour in enumerate(((200, 30, 30), (30, 200, 30))):
        Image.new("RGB", (64, 64), colour).save(photos / f"{number}.png")
    async with Devnet.open(nodes=1, executor="diffusers") as net:
        user = net.submitter
        listing = await user.market.import_base(folder, "tiny-xl", licence="MIT")
        with anyio.fail_after(2 * PATIENCE_S):
            run = await user.train_lora(photos, base="tiny-xl", trigger="zbx", audit="none", **SMALL)
            lora = (await run.result()).save(tmp_path / "zbx.safetensors")
            spec = await user.spec("a zbx", model="tiny-xl", steps=2, loras=[f"{lora}:0.8"])
            task = await user.submit(spec, audit="none")
            await run.task.result(until="settled")
            receipt = (await task.result(until="settled")).receipt
            assert receipt.model_manifest == listing.manifest
            async with open_replayer(tmp_path / "own", user.blobs) as replayer:
                report = await (await user.task(task.id)).recheck(replayer=replayer)
                training = await (await user.task(run.task.id)).recheck(replayer=replayer)
        rows = {row["check"]: row["result"] for row in (row.document() for row in report.rows)}
        assert (report.verdict, training.verdict) == ("pass", "plausible"), (report.document(), training.document())
        assert (rows["text embeddings"], rows["start noise"]) == ("ok", "ok"), rows
