"""Whether a node wants a task, and if not, why. Every refusal has a code that people and programs can read."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from gesso_protocol.encoding import MAX_SAFE_INT, Document
from gesso_protocol.fields import MAX_TRAINING_STEPS, Dtype, KindName
from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import Address, BlobRef
from gesso_protocol.money import BPS, Wei
from gesso_protocol.spec import MAX_COUNT, MAX_STEPS, Spec, TrainLora
from gesso_protocol.terms import Terms
from gesso_protocol.training.disk import checkpoint_pixel_steps, needed_bytes
from gesso_protocol.training.share import late_from

MEGAPIXEL_STEP = 10**6


class Refusal(enum.StrEnum):
    """Why a node does not take a task."""

    SPEC_UNREADABLE = "spec-unreadable"
    KIND_UNSUPPORTED = "kind-unsupported"
    DTYPE_UNSUPPORTED = "dtype-unsupported"
    NOT_ALLOWED = "not-allowed"
    TOO_LARGE = "too-large"
    MODEL_UNKNOWN = "model-unknown"
    MODEL_NOT_CACHED = "model-not-cached"
    MODEL_UNAVAILABLE = "model-unavailable"
    INPUT_UNAVAILABLE = "input-unavailable"
    RUN_NOT_LOST = "run-not-lost"
    DISK = "disk"
    ROYALTY_UNPAID = "royalty-unpaid"
    PRICE_TOO_LOW = "price-too-low"
    EXPIRED = "expired"
    BUSY = "busy"


class Price(Document):
    """What a node asks: a base fee a task plus so much per million pixel-steps, in base units. A training's checkpoints
    count as pixel-steps too."""

    MAX_BYTES: ClassVar[int] = 512

    base: Wei = Wei(0)
    per_megapixel_step: Wei = Wei(0)

    def quote(self, spec: Spec, base_bytes: int = 0) -> Wei:
        """What this spec costs, rounded up to a whole base unit. `base_bytes`: what the files of a training's base
        weigh, which says how large its checkpoints are; nothing on networks where no model runs."""
        kept = checkpoint_pixel_steps(spec, base_bytes) if isinstance(spec, TrainLora) else 0
        work = spec.pixel_steps + kept
        return Wei(int(self.base) + -(-work * int(self.per_megapixel_step) // MEGAPIXEL_STEP))


class Offer(Document):
    """What a node says in public that it can do, now. The Keccak-256 of what it said when it registered stands in the
    registry as `capabilities`."""

    MAX_BYTES: ClassVar[int] = 12 * 1024

    format: Literal["gesso/offer/2"] = "gesso/offer/2"
    kinds: Annotated[tuple[KindName, ...], Field(max_length=8, strict=False)] = ("text_to_image",)
    dtypes: Annotated[tuple[Dtype, ...], Field(max_length=3, strict=False)] = ("fp32",)
    max_pixels: Annotated[int, Field(ge=0, le=2048 * 2048)] = 1024 * 1024
    max_steps: Annotated[int, Field(ge=0, le=MAX_STEPS)] = MAX_STEPS
    max_count: Annotated[int, Field(ge=0, le=MAX_COUNT)] = MAX_COUNT
    max_training_steps: Annotated[int, Field(ge=0, le=MAX_TRAINING_STEPS)] = 0
    """Updates of one training task, each of at most `max_pixels` a picture; 0 where `kinds` has no training."""
    max_training_disk_bytes: Annotated[int, Field(ge=0, le=MAX_SAFE_INT)] = 0
    """What all checkpoints of one training task may take on its disk, as far as there is room now."""
    models: Annotated[tuple[BlobRef, ...], Field(max_length=64, strict=False)] = ()
    price: Price = Price()

    def digest(self) -> bytes:
        """The 32 bytes for the registry."""
        return keccak256(self.encode())


@dataclass(frozen=True)
class Capabilities:
    """All that `judge` needs to know of a node: its public offer and what it keeps to itself.

    `models` maps labels (`name@version`) that the node knows to manifests; `offer.models` are the cached ones.
    `allowed` empty means everyone. `deductions_bps` is what royalty and protocol take from the fee at most.
    `seconds_per_megapixel_step` estimates the running time; 0 means unknown. `begin_s` is what goes by before the first
    step and after the last, `ahead_s` what the work takes that is already held and comes first.
    """

    offer: Offer = field(default_factory=Offer)
    models: Mapping[str, BlobRef] = field(default_factory=dict)
    fetches_models: bool = False
    free_slots: int = 1
    allowed: frozenset[Address] = frozenset()
    denied: frozenset[Address] = frozenset()
    deductions_bps: int = 0
    seconds_per_megapixel_step: float = 0.0
    begin_s: float = 0.0
    ahead_s: float = 0.0


def judge(
    spec: Spec | None, terms: Terms, capabilities: Capabilities, *, claim_left_s: int | None = None
) -> Refusal | None:
    """None: the node wants the task. `spec` is None when its blob could not be read.

    Lasting reasons come before passing ones, so BUSY means that trying again later makes sense.
    """
    if terms.requester in capabilities.denied or (capabilities.allowed and terms.requester not in capabilities.allowed):
        return Refusal.NOT_ALLOWED
    if spec is None:
        return Refusal.SPEC_UNREADABLE
    for refusal in (
        _unsupported(spec, terms, capabilities.offer),
        _too_large(spec, capabilities.offer),
        _model(spec, capabilities),
        _price(spec, terms, capabilities),
        _time(spec, terms, capabilities, claim_left_s),
    ):
        if refusal is not None:
            return refusal
    waits = capabilities.ahead_s > 0 and not in_time(spec, terms, capabilities)
    return Refusal.BUSY if capabilities.free_slots < 1 or waits else None


def resolve_model(spec: Spec, models: Mapping[str, BlobRef]) -> BlobRef | None:
    """The manifest a spec means: the one it names by hash, else what its label stands for. None: unknown."""
    by_label = models.get(spec.model)
    if spec.model_manifest is None:
        return by_label
    if spec.model_manifest in models.values():
        return spec.model_manifest
    return None


def _unsupported(spec: Spec, terms: Terms, offer: Offer) -> Refusal | None:
    if terms.kind != int(spec.task_kind):
        return Refusal.KIND_UNSUPPORTED
    return _unsupported_by(spec, offer)


def _unsupported_by(spec: Spec, offer: Offer) -> Refusal | None:
    if spec.kind not in offer.kinds:
        return Refusal.KIND_UNSUPPORTED
    return Refusal.DTYPE_UNSUPPORTED if spec.dtype not in offer.dtypes else None


def misfit(spec: Spec, offer: Offer, base_bytes: int = 0) -> Refusal | None:
    """Why a public offer does not cover a spec: kind, type, size, or room for its checkpoints on a base of so many
    bytes. None where it does. Models are not asked for."""
    return _unsupported_by(spec, offer) or _too_large(spec, offer) or _no_room(spec, offer, base_bytes)


def pays(spec: Spec, terms: Terms, capabilities: Capabilities, base_bytes: int = 0) -> bool:
    """Whether the fee leaves the node its price, checkpoints on a base of so many bytes included."""
    kept = int(terms.fee) - -(-int(terms.fee) * capabilities.deductions_bps // BPS)
    return kept >= capabilities.offer.price.quote(spec, base_bytes)


def _no_room(spec: Spec, offer: Offer, base_bytes: int) -> Refusal | None:
    if not isinstance(spec, TrainLora) or needed_bytes(spec, base_bytes) <= offer.max_training_disk_bytes:
        return None
    return Refusal.DISK


def _too_large(spec: Spec, offer: Offer) -> Refusal | None:
    if isinstance(spec, TrainLora):
        fit = spec.resolution**2 <= offer.max_pixels and spec.steps <= offer.max_training_steps
    else:
        fit = (
            spec.width * spec.height <= offer.max_pixels
            and spec.steps <= offer.max_steps
            and spec.count <= offer.max_count
        )
    return None if fit else Refusal.TOO_LARGE


def _model(spec: Spec, capabilities: Capabilities) -> Refusal | None:
    manifest = resolve_model(spec, capabilities.models)
    if manifest is None:
        return Refusal.MODEL_UNKNOWN
    if manifest in capabilities.offer.models or capabilities.fetches_models:
        return None
    return Refusal.MODEL_NOT_CACHED


def _price(spec: Spec, terms: Terms, capabilities: Capabilities) -> Refusal | None:
    # Of checkpoints nothing is known before the base's manifest is read; whoever has read it asks `pays` again.
    return None if pays(spec, terms, capabilities) else Refusal.PRICE_TOO_LOW


def _time(spec: Spec, terms: Terms, capabilities: Capabilities, claim_left_s: int | None) -> Refusal | None:
    if claim_left_s is not None and claim_left_s <= 0:
        return Refusal.EXPIRED
    return None if in_time(spec, terms, replace(capabilities, ahead_s=0.0)) else Refusal.EXPIRED


def in_time(spec: Spec, terms: Terms, capabilities: Capabilities) -> bool:
    """Whether the commit window, which begins with the claim, holds the work and what comes before it."""
    needed_s = spec.pixel_steps / MEGAPIXEL_STEP * capabilities.seconds_per_megapixel_step
    window_s = terms.commit_window_s
    # a training that is not done in nine tenths of its window ends there, as a part
    given_s = late_from(0, window_s) if isinstance(spec, TrainLora) else window_s
    return capabilities.ahead_s + capabilities.begin_s + needed_s <= given_s
