"""`TrainLora`: what a requester asks for when a LoRA is to be trained. Every number counts whole small units."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import Field, ValidationError, model_validator

from gesso_protocol.encoding import Document, explain
from gesso_protocol.errors import SpecInvalid
from gesso_protocol.fields import (
    MAX_SPEC_BYTES,
    MAX_TRAINING_STEPS,
    Adapter,
    ModelRef,
    Prompt,
    Seed,
    Side,
    TaskKind,
    Text,
)
from gesso_protocol.ids import BlobRef
from gesso_protocol.training.checkpoint import Resume

MAX_CHECKPOINTS = 1_000
MAX_UNPROVEN_STEPS = 100
"""Between two checkpoints: a run whose numbers break before its first one pays its node nothing."""
MAX_SEGMENT_STEPS = 20
MAX_RANK = 128
MAX_SAMPLES = 200

Target: TypeAlias = Literal["attention", "convolution", "feed_forward", "projection"]
Schedule: TypeAlias = Literal["constant", "cosine", "linear"]
TrainingDtype: TypeAlias = Literal["fp32", "bf16"]

Milli = Annotated[int, Field(ge=0, le=1000)]
Rate = Annotated[int, Field(ge=1, le=10**8)]


class TrainLora(Document):
    """Train a LoRA on a data set. Units are in the names: `_nano` 1e-9, `_milli` 1e-3, `_px` pixels, steps are updates.

    What decides every bit of the result is in here, in the base model, in the data set and in the beacon's seed.
    A checkpoint is committed every `checkpoint_every` steps; audited training (`fp32`) allows at most 20.
    """

    MAX_BYTES: ClassVar[int] = MAX_SPEC_BYTES
    INVALID = SpecInvalid

    format: Literal["gesso/spec/1"] = "gesso/spec/1"
    kind: Literal["train_lora"] = "train_lora"
    model: ModelRef
    model_manifest: BlobRef | None = None
    dataset: BlobRef
    """Manifest of kind `dataset`; what its files hold is said in `gesso_protocol.training.dataset`."""
    continue_from: Adapter | None = None
    """Start from the weights of this LoRA; its rank and targets must be this spec's."""
    trigger: Annotated[Text, Field(max_length=64)] = ""
    rank: Annotated[int, Field(ge=1, le=MAX_RANK)] = 8
    alpha: Annotated[int, Field(ge=1, le=2 * MAX_RANK)] = 8
    targets: Annotated[tuple[Target, ...], Field(min_length=1, max_length=4, strict=False)] = ("attention",)
    text_encoder: bool = False
    learning_rate_nano: Rate = 100_000
    text_learning_rate_nano: Annotated[int, Field(ge=0, le=10**8)] = 0
    """0: the same as `learning_rate_nano`."""
    schedule: Schedule = "cosine"
    warmup_steps: Annotated[int, Field(ge=0, le=MAX_TRAINING_STEPS)] = 0
    weight_decay_milli: Milli = 10
    max_grad_norm_milli: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    steps: Annotated[int, Field(ge=1, le=MAX_TRAINING_STEPS)] = 1000
    batch: Annotated[int, Field(ge=1, le=64)] = 1
    accumulation: Annotated[int, Field(ge=1, le=64)] = 1
    resolution: Side = 512
    buckets: bool = True
    bucket_step_px: Annotated[int, Field(ge=8, le=256, multiple_of=8)] = 64
    caption_dropout_milli: Milli = 50
    noise_offset_milli: Milli = 0
    min_snr_milli: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Min-SNR gamma; 0 weighs every timestep alike."""
    prior_milli: Annotated[int, Field(ge=0, le=10_000)] = 0
    """Weight of staying close to the base model on `prior_prompts`; 0 switches it off."""
    prior_prompts: Annotated[tuple[Prompt, ...], Field(max_length=256, strict=False)] = ()
    seed: Seed = 0
    checkpoint_every: Annotated[int, Field(ge=1, le=MAX_UNPROVEN_STEPS)] = 20
    sample_prompts: Annotated[tuple[Prompt, ...], Field(max_length=4, strict=False)] = ()
    sample_every: Annotated[int, Field(ge=0, le=MAX_TRAINING_STEPS)] = 0
    """Draw the sample prompts every so many steps, and at the end; 0: only at the end."""
    sample_steps: Annotated[int, Field(ge=1, le=100)] = 20
    sample_guidance_milli: Annotated[int, Field(ge=0, le=30_000)] = 3000
    dtype: TrainingDtype = "fp32"
    resume: Resume | None = None
    """Do the rest of a run whose first part somebody else did; every other field is that run's."""

    @model_validator(mode="after")
    def _is_bounded_and_whole(self) -> Self:
        # Of the whole run, whatever is left of it here: what finishes a run must be able to name the run.
        if self._checkpoints_from(0) > MAX_CHECKPOINTS:
            raise ValueError(f"more than {MAX_CHECKPOINTS} checkpoints; raise checkpoint_every")
        if list(self.targets) != sorted(set(self.targets)):
            raise ValueError("targets are sorted and named once")
        if self._samples_from(0) > MAX_SAMPLES:
            raise ValueError(f"more than {MAX_SAMPLES} sample pictures; raise sample_every")
        if bool(self.prior_milli) != bool(self.prior_prompts):
            raise ValueError("prior_milli and prior_prompts go together")
        if self.text_learning_rate_nano and not self.text_encoder:
            raise ValueError("text_learning_rate_nano is for training the text encoder")
        if self.resolution % self.bucket_step_px and self.buckets:
            raise ValueError("the resolution is a multiple of bucket_step_px")
        if self.resume is not None and (self.first_step >= self.steps or self.first_step % self.checkpoint_every):
            raise ValueError("a run goes on from one of its checkpoints, before its end")
        return self

    @property
    def task_kind(self) -> TaskKind:
        """The number for the terms on chain."""
        return TaskKind.TRAIN_LORA

    @property
    def first_step(self) -> int:
        """Updates that were made before this task; 0 for a whole run."""
        return 0 if self.resume is None else self.resume.step

    @property
    def checkpoints(self) -> int:
        """Checkpoints after this task's start: one a segment, the last segment may be shorter."""
        return self._checkpoints_from(self.first_step)

    @property
    def audited(self) -> bool:
        """Whether segments can be held to the tight limit: fp32, and short enough that rounding does not grow."""
        return self.dtype == "fp32" and self.checkpoint_every <= MAX_SEGMENT_STEPS

    @property
    def samples(self) -> int:
        """Sample pictures in all."""
        return self._samples_from(self.first_step)

    @property
    def samples_a_step(self) -> int:
        """Pictures that one update looks at."""
        return self.batch * self.accumulation

    @property
    def pixel_steps(self) -> int:
        """Work of the whole task in the unit of picture tasks: a picture's step is two passes, an update's is three."""
        return self.resolution**2 * -(-self.passes(self.steps) // 2)

    def passes(self, done: int) -> int:
        """Passes over a picture that this task costs when it ends after update `done` of the run, last samples too.

        Those are drawn however early it ends, so they count whole; what was drawn on the way counts as far as it came.
        """
        seen = (done - self.first_step) * self.samples_a_step * (2 if self.prior_milli else 1)
        every, last = self.sample_every, min(done, self.steps - 1)
        rounds = 1 + (last // every - self.first_step // every if every else 0)
        return 3 * seen + 2 * rounds * len(self.sample_prompts) * self.sample_steps

    @property
    def run(self) -> TrainLora:
        """The whole run that this task is, or does the rest of."""
        return self if self.resume is None else self.changed(resume=None)

    def rest(self, resume: Resume) -> TrainLora:
        """What is left of the run from a checkpoint on. Raises SpecInvalid for one that is none of this run."""
        try:
            return self.changed(resume=resume)
        except ValidationError as error:
            raise SpecInvalid(explain(error)) from None

    def changed(self, **changes: Any) -> TrainLora:
        """A copy with other values, checked again. Raises pydantic's ValidationError."""
        return TrainLora.model_validate({**self.model_dump(), **changes})

    def _checkpoints_from(self, first: int) -> int:
        return -(-(self.steps - first) // self.checkpoint_every)

    def _samples_from(self, first: int) -> int:
        every = self.sample_every
        rounds = 1 + ((self.steps - 1) // every - first // every if every else 0)
        return rounds * len(self.sample_prompts)
