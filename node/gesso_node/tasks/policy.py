"""What this operator takes: the protocol's rules fed with settings, cache and load. Every refusal is counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from gesso_node.models.cache import ModelCache
from gesso_node.models.catalogue import Catalogue
from gesso_node.settings import PolicySection
from gesso_protocol.encoding import MAX_SAFE_INT
from gesso_protocol.ids import BlobRef
from gesso_protocol.policy import (
    MEGAPIXEL_STEP,
    Capabilities,
    Offer,
    Price,
    Refusal,
    in_time,
    judge,
    pays,
    resolve_model,
)
from gesso_protocol.royalties import used_adapters
from gesso_protocol.spec import Spec, TrainLora
from gesso_protocol.terms import BoardParams, Terms

MAX_OFFERED_MODELS = 64
BEGIN_S, FETCH_S = 5.0, 30.0
"""For the model to be loaded, blocks and the commit; the least for weights that are not here to be fetched before."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the node thinks of a task. `manifest` is the model it means, when it is known."""

    refusal: Refusal | None
    manifest: BlobRef | None = None
    hold_back_steps: int = 0


class Policy:
    """Judges tasks. `needs_model` is false for executors that draw without weights."""

    def __init__(
        self,
        settings: PolicySection,
        params: BoardParams,
        catalogue: Catalogue,
        cache: ModelCache,
        *,
        needs_model: bool,
        pace: Callable[[str], float] = lambda _: 0.0,
        picture_pace: Callable[[str], float] = lambda _: 0.0,
        fetching: Callable[[int], float] = lambda _: 0.0,
        free: Callable[[], int] = lambda: MAX_SAFE_INT,
    ) -> None:
        """`pace`: seconds a megapixel-step of training on a base, `picture_pace` of drawing; 0 where not known.
        `fetching`: seconds that so many bytes of weights take to come; `free`: what the disk has left for a training.
        """
        self._settings = settings
        self._params = params
        self._catalogue = catalogue
        self._cache = cache
        self._needs_model = needs_model
        self._pace = pace
        self._picture_pace = picture_pace
        self._free = free
        self._fetching = fetching

    async def knows(self, terms: Terms) -> bool:
        """Whether the chain has told us what the terms name; the bundle of a task that is ahead of its block it may not
        know yet. Raises Unreachable, ChainError."""
        return await self._catalogue.knows(terms.model)

    def offer(self) -> Offer:
        """What the node says in public that it can do."""
        wanted = self._settings
        return Offer(
            dtypes=wanted.dtypes,
            max_pixels=min(wanted.max_pixels, 2048 * 2048),
            max_steps=wanted.max_steps,
            max_count=wanted.max_count,
            kinds=("text_to_image", "train_lora") if wanted.max_training_steps else ("text_to_image",),
            max_training_steps=wanted.max_training_steps,
            max_training_disk_bytes=self._training_disk_bytes() if wanted.max_training_steps else 0,
            models=self._at_hand()[:MAX_OFFERED_MODELS],
            price=Price(base=wanted.min_fee, per_megapixel_step=wanted.min_fee_per_megapixel_step),
        )

    def judge(
        self, spec: Spec | None, terms: Terms, *, free_slots: int, claim_left_s: int, ahead_s: float = 0.0
    ) -> Verdict:
        """Whether we want this task, and how many sortition steps we let others go first."""
        models = self._catalogue.models()
        able = replace(self._capabilities(models, spec, terms, free_slots), ahead_s=ahead_s)
        refusal = judge(spec, terms, able, claim_left_s=claim_left_s)
        if refusal is None and spec is not None and not self.model_allowed(spec.model):
            refusal = Refusal.NOT_ALLOWED
        if refusal is not None or spec is None:
            return Verdict(refusal or Refusal.SPEC_UNREADABLE)
        manifest = resolve_model(spec, models)
        if manifest is not None and not self._catalogue.pays_owners(spec, manifest, terms.model):
            return Verdict(Refusal.ROYALTY_UNPAID)
        missing = self._needs_model and manifest is not None and self._lacks(spec, manifest)
        return Verdict(None, manifest, self._settings.hold_back_steps if missing else 0)

    def pays(self, spec: Spec, terms: Terms, base_bytes: int) -> bool:
        """Whether the fee covers the checkpoints of a training too, on a base of so many bytes."""
        return pays(spec, terms, self._capabilities(self._catalogue.models(), spec, terms, 1), base_bytes)

    def seconds(self, spec: Spec) -> float:
        """How long the work of a task keeps the executor; 0 where that is not known."""
        return self._pace_on(spec) * spec.pixel_steps / MEGAPIXEL_STEP

    def in_time(self, spec: Spec, terms: Terms, ahead_s: float) -> bool:
        """Whether a task that is claimed now is done in its window, behind so many seconds of other work."""
        able = self._capabilities(self._catalogue.models(), spec, terms, 1)
        return in_time(spec, terms, replace(able, ahead_s=ahead_s))

    def _training_disk_bytes(self) -> int:
        try:
            return max(0, min(self._settings.max_training_disk_bytes, self._free(), MAX_SAFE_INT))
        except OSError:
            return 0

    def _pace_on(self, spec: Spec) -> float:
        return self._pace(spec.model) if isinstance(spec, TrainLora) else self._picture_pace(spec.model)

    def _begin_s(self, spec: Spec, models: dict[str, BlobRef]) -> float:
        """Windows of trainings have room for what everybody has to do, but not for gigabytes on a slow line."""
        if not self._needs_model:
            return 0.0
        manifest = resolve_model(spec, models)
        wanted = (*(() if manifest is None else (manifest,)), *used_adapters(spec))
        if isinstance(spec, TrainLora):
            given = 0 if spec.resume is None else spec.resume.size
            return self._fetching(given + sum(map(self._cache.missing_bytes, (*wanted, spec.dataset))))
        if manifest is not None and all(self._cache.has(ref) for ref in wanted):
            return BEGIN_S
        return max(FETCH_S, BEGIN_S + self._fetching(sum(map(self._cache.missing_bytes, wanted))))

    def _lacks(self, spec: Spec, manifest: BlobRef) -> bool:
        """Whether others may have weights of the marketplace that we would have to fetch; nobody has private ones."""
        listed = (ref for ref in used_adapters(spec) if self._catalogue.listed(ref))
        return not all(self._cache.has(ref) for ref in (manifest, *listed))

    def _capabilities(
        self, models: dict[str, BlobRef], spec: Spec | None, terms: Terms, free_slots: int
    ) -> Capabilities:
        wanted = self._settings
        return Capabilities(
            offer=self.offer(),
            models=models,
            fetches_models=wanted.fetch_unknown_models or not self._needs_model,
            free_slots=free_slots,
            allowed=frozenset(wanted.allow_requesters),
            denied=frozenset(wanted.deny_requesters),
            deductions_bps=self._params.protocol_fee_bps + self._catalogue.royalty_bps(terms.model),
            seconds_per_megapixel_step=0.0 if spec is None else self._pace_on(spec),
            begin_s=0.0 if spec is None else self._begin_s(spec, models),
        )

    def _at_hand(self) -> tuple[BlobRef, ...]:
        cached = tuple(model.manifest for model in self._cache.cached() if model.kind != "dataset")
        return cached if self._needs_model else tuple(dict.fromkeys((*self._catalogue.bases(), *cached)))

    def model_allowed(self, label: str) -> bool:
        """Whether the operator lets this model be drawn with, `name@version`."""
        named = {label, label.partition("@")[0]}
        wanted = self._settings
        if named & set(wanted.deny_models):
            return False
        return not wanted.allow_models or bool(named & set(wanted.allow_models))
