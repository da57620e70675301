"""How close the node's work came to what the auditors computed, from public data alone and without a model.

Auditors put fingerprints of their own outputs on chain before they saw the node's. The evidence holds the node's
outputs; their fingerprint is computed here and compared, number by number, with each auditor's.
"""

from __future__ import annotations

from collections.abc import Sequence

import anyio.to_thread

from gesso.audits.facts import AuditFacts
from gesso.audits.learnt import learnt
from gesso.audits.subject import layout_of, most_bytes
from gesso.blobs.port import BlobStore
from gesso_protocol.audit.bundle import Bundle
from gesso_protocol.audit.compare import Branches, tensor
from gesso_protocol.audit.outcomes import AuditVerdict
from gesso_protocol.audit.projection import differ, outputs_of, project
from gesso_protocol.audit.rules import AuditRules
from gesso_protocol.errors import GessoError
from gesso_protocol.events import AuditOpened, AuditRevealed, Committed, Event
from gesso_protocol.ids import Root
from gesso_protocol.spec import Spec, TextToImage
from gesso_protocol.trace import LeafKind, Run, Slot

MAX_BYTES = 32 << 20
"""A larger bundle is not fetched for one number on a receipt; `gesso task audit` fetches it."""


async def with_closeness(
    facts: AuditFacts, happened: Sequence[Event], run: Run, spec: Spec, rules: AuditRules, blobs: BlobStore
) -> AuditFacts:
    """The facts with `error_of_limit`: the largest difference to an auditor that revealed, as a share of what two
    auditors may differ. Unchanged where there is no evidence, where it is too large, or where it proves nothing."""
    opened = next((event for event in happened if isinstance(event, AuditOpened)), None)
    done = next((event for event in reversed(happened) if isinstance(event, Committed)), None)
    seen = [event.projection for event in happened if isinstance(event, AuditRevealed) and _saw(event)]
    if facts.evidence is None or opened is None or done is None or not seen or rules.projection_tolerance == 0:
        return facts
    drawn = bytes.fromhex(opened.challenge[2:])
    try:
        if isinstance(spec, TextToImage):
            mine = await _of_picture(facts, drawn, spec, run, done.trace_root, blobs)
        else:
            mine = await learnt(facts.evidence, drawn, spec, run, done.trace_root, blobs)
    except GessoError:
        return facts
    if mine is None:
        return facts
    worst = max(differ(mine, theirs) for theirs in seen)
    return facts.model_copy(update={"error_of_limit": worst / rules.projection_tolerance})


async def _of_picture(
    facts: AuditFacts, drawn: bytes, spec: TextToImage, run: Run, trace_root: Root, blobs: BlobStore
) -> tuple[int, ...] | None:
    if facts.evidence is None or not facts.steps or most_bytes(spec) > MAX_BYTES:
        return None
    data = await blobs.get(facts.evidence, max_bytes=most_bytes(spec))
    bundle = Bundle.decode(data, run, layout_of(spec), trace_root)
    return await anyio.to_thread.run_sync(_fingerprint, bundle, drawn, facts.steps)


def _saw(event: AuditRevealed) -> bool:
    return event.verdict is not AuditVerdict.WITHHELD


def _fingerprint(bundle: Bundle, challenge: bytes, steps: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    return project(challenge, outputs_of([_branches(bundle, *place) for place in steps]))


def _branches(bundle: Bundle, image: int, step: int) -> Branches:
    cond = bundle.leaf(Slot(LeafKind.COND, image, step))
    uncond = bundle.leaf(Slot(LeafKind.UNCOND, image, step)) if bundle.layout.guided else None
    other = None if uncond is None else tensor(bytes(uncond.data), uncond.shape)
    return Branches(tensor(bytes(cond.data), cond.shape), other)
