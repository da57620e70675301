"""`gesso train`: a folder of pictures in, a LoRA out."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from gesso.cli.app import EXIT_INTERRUPTED
from gesso.cli.inputs import MaybeWhole, check_output
from gesso.cli.interrupt import follow
from gesso.cli.live import TaskLine
from gesso.cli.output import Common, Output
from gesso.cli.session import client_for, relay_url
from gesso.cli.train_options import TrainOptions
from gesso.cli.waiting import waiting
from gesso_protocol.errors import UsageError
from gesso_protocol.events import Event, TrainingStep
from gesso_protocol.training.samples import last_samples
from gesso_protocol.training.window import haste_of, window_for

if TYPE_CHECKING:
    from gesso.training import Adapter
    from gesso_protocol.training.spec import TrainLora


async def train(
    pictures: Path | None = None,
    /,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("lora.safetensors"),
    base: Annotated[str, Parameter(name=["--base", "-b"])] = "gesso-tiny@1",
    trigger: str = "",
    continue_: Annotated[str | None, Parameter(name="--continue")] = None,
    resume: str | None = None,
    trust_state: bool = False,
    options: TrainOptions | None = None,
    kohya: bool = False,
    fee: str | None = None,
    max_fee: str | None = None,
    window: MaybeWhole = None,
    audit: Literal["sampled", "always", "none"] = "sampled",
    dry_run: bool = False,
    common: Common | None = None,
) -> int:
    """Train a LoRA on a folder or a zip of pictures.

    Ctrl-C asks whether to stop at the next checkpoint: what was learnt is yours, the rest of the fee comes back. When
    the node is lost, another one goes on from its last checkpoint, for the rest of the fee.

    Parameters
    ----------
    pictures
        A folder or a zip: captions beside the pictures, folders such as 10_zbx, metadata.jsonl, or no words.
    output
        Where the LoRA goes.
    base
        The model that it is trained for, NAME@VERSION.
    trigger
        The made-up word that stands for what is learnt; put before captions that lack it.
    continue_
        Start from this LoRA: NAME@VERSION of the marketplace, or a safetensors file.
    resume
        Go on with an earlier training, by its task: take what it gave, follow it, or order the rest of it.
    trust_state
        With --resume: go on from a lost node's checkpoint even where it came further than can be believed.
    kohya
        Write the file for kohya-style tools instead of the one for diffusers.
    fee
        What to pay, in fee tokens; the quoted price when left out.
    max_fee
        Refuse to pay more than this, audit included.
    window
        Seconds that a node may take, and a lost one is waited for; by the work when left out.
    audit
        Have segments of the run checked by others: at the node's own rate, always (for the audit fee), or never.
    dry_run
        Say what was recognised and what it would cost, and stop.
    """
    common = common or Common()
    out = common.out
    if (pictures is None) == (resume is None):
        raise UsageError("train on pictures, or --resume a task", hint="gesso train photos/ --trigger zbx")
    check_output(output, "lora.safetensors")
    if resume is not None:
        async with client_for(common) as client:
            run = await client.resume_training(resume, max_fee=max_fee, trust_state=trust_state)
            adapter = await follow(out, run, SampleLine(out, output, run.spec))
        return _save(common, adapter, output, kohya=kohya, trigger=run.spec.trigger)
    assert pictures is not None
    settings = (options or TrainOptions()).settings()
    with tempfile.TemporaryDirectory(prefix="gesso-dataset-") as folder:
        async with client_for(common, read_only=dry_run) as client:
            order = await client.training_order(
                pictures, base=base, trigger=trigger, continue_from=continue_, folder=Path(folder), **settings
            )
            for remark in order.bundle.report.lines():
                out.say(remark)
            if haste := haste_of(order.spec, window_for(order.spec) if window is None else window):
                out.say(haste)
            if dry_run:
                quote = await client.quote(order.spec, fee=fee, audit=audit)
                out.result({**order.bundle.report.document(), "price": quote.document()})
                return 0
            asked = {} if window is None else {"commit_window_s": window}
            run = await client.submit_training(order, fee=fee, max_fee=max_fee, audit=audit, **asked)
            line = SampleLine(out, output, run.spec)
            async with waiting(out, line, run.id, then=f"gesso train --resume {run.id} -o {output}"):
                adapter = await follow(out, run, line)
    return _save(common, adapter, output, kohya=kohya, trigger=trigger)


class SampleLine(TaskLine):
    """The task's line, which also keeps the samples that are drawn on the way, beside the LoRA. Progress is anybody's
    word until it is signed, so only as many files come of it as the run was ordered to draw, and none over another."""

    def __init__(self, out: Output, output: Path, spec: TrainLora) -> None:
        super().__init__(out)
        self._output = output.expanduser().resolve()
        self._spec = spec
        self._kept_samples: set[tuple[int, int]] = set()

    def show(self, event: Event) -> None:
        """See `TaskLine.show`."""
        super().show(event)
        if not isinstance(event, TrainingStep) or event.sample is None:
            return
        place = (event.index, event.prompt)
        if place not in self._kept_samples and self._is_ordered(event):
            self._kept_samples.add(place)
            self.remark(self._keep(event, event.sample))

    def _is_ordered(self, event: TrainingStep) -> bool:
        every, prompts = self._spec.sample_every, len(last_samples(self._spec))
        at_its_step = bool(every) and 0 < event.index < self._spec.steps and event.index % every == 0
        return at_its_step and 0 <= event.prompt < prompts

    def _keep(self, event: TrainingStep, sample: bytes) -> str:
        suffix = ".png" if sample.startswith(b"\x89PNG") else ".jpg"
        what = f"sample-{event.prompt}-step-{event.index}{suffix}"
        folder, stem = self._output.parent, self._output.stem
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in (f"{stem}-{what}", f"{stem}-{str(event.task)[2:10]}-{what}"):  # the first may be of another run
                with suppress(FileExistsError), (folder / name).open("xb") as file:
                    file.write(sample)
                    return f"sample after step {event.index}: {name}"
        except OSError as error:
            return f"sample after step {event.index} cannot be written: {error.strerror}"
        return f"sample after step {event.index} is here already: {name}"


def _save(common: Common, adapter: Adapter | None, output: Path, *, kohya: bool, trigger: str) -> int:
    """Returns the exit code: that of an interrupted program when the person has left the run to itself."""
    if adapter is None:
        return EXIT_INTERRUPTED
    out = common.out
    path = adapter.save(output, kohya=kohya)
    samples = [
        str(image.save(path.with_name(f"{path.stem}-sample-{at}.png"))) for at, image in enumerate(adapter.samples)
    ]
    document = {"lora": str(path), "samples": samples, "steps": adapter.steps_done, "stopped": adapter.stopped,
                "manifest": str(adapter.ref), "receipt": adapter.receipt.model_dump(mode="json")}  # fmt: skip
    out.result(document, human="\n".join([str(path), *samples]))
    if adapter.stopped:
        out.say(f"stopped early: {adapter.stopped}")
    if out.form == "human":
        out.say(adapter.receipt.summary(relay_url(common)))
    out.hint(f'gesso generate "a {trigger or "picture"}" --lora {path}:0.8 -o out.png')
    return 0
