"""What a task gave, put together from what was seen of it."""

from __future__ import annotations

from dataclasses import dataclass

from gesso.audits.facts import AuditFacts
from gesso.image import Image
from gesso.receipt import Receipt
from gesso.seen import Seen
from gesso_protocol.errors import TaskFailed
from gesso_protocol.ids import BlobRef, TaskId
from gesso_protocol.money import Wei
from gesso_protocol.spec import Spec
from gesso_protocol.terms import Terms


@dataclass(frozen=True, slots=True)
class Result:
    """What a task gave. `stages_s` is seconds from submit to each stage, by this machine's clock."""

    images: tuple[Image, ...]
    receipt: Receipt
    stages_s: dict[str, float]
    adapter: BlobRef | None = None
    """Manifest of the LoRA that a training gave; see `gesso.training`."""

    @property
    def image(self) -> Image:
        """The first picture. Raises TaskFailed when nothing came of the task, a training."""
        if not self.images:
            raise TaskFailed(f"nothing came of the task: {self.receipt.profile.get('stopped', '')}")
        return self.images[0]


def result_of(task: TaskId, terms: Terms, spec: Spec, seen: Seen, audit: AuditFacts, *, chain_id: int) -> Result:
    """Of a task whose result is there, delivered or committed."""
    receipt = _receipt(task, terms, spec, seen, audit, chain_id)
    assert seen.delivery is not None
    images = tuple(
        Image(data, entry.blob, entry.seed, entry.width, entry.height, spec, receipt)
        for entry, data in zip(seen.delivery.manifest.images, seen.delivery.images, strict=True)
    )
    return Result(images, receipt, dict(seen.at), seen.delivery.manifest.adapter)


def _receipt(task: TaskId, terms: Terms, spec: Spec, seen: Seen, audit: AuditFacts, chain_id: int) -> Receipt:
    delivery, commitment, settled = seen.delivery, seen.commitment or seen.promised, seen.settled
    assert delivery is not None
    assert commitment is not None
    manifest = delivery.manifest
    return Receipt(
        task=task,
        chain_id=chain_id,
        requester=terms.requester,
        node=commitment.node,
        model=spec.model,
        listing=terms.model,
        model_manifest=manifest.model_manifest,
        spec=terms.spec,
        result=manifest.ref,
        result_root=commitment.result_root,
        trace_root=commitment.trace_root,
        executor=manifest.executor,
        profile=dict(manifest.profile),
        fee=terms.fee,
        paid=settled.paid if settled else None,
        royalty=settled.royalty if settled else None,
        royalty_to=settled.royalty_to if settled else None,
        protocol_fee=settled.protocol_fee if settled else None,
        refunded=settled and Wei(terms.fee - settled.paid - settled.royalty - settled.protocol_fee),
        done_bps=seen.done_bps,
        audit=audit,
        claimed=seen.claimant is not None,
        confirmed=seen.commitment is not None,
        transactions=dict(seen.transactions),
    )
