"""Whether what a node says of a training hangs together: its facts, its trace, and the task that was ordered. Pure."""

from __future__ import annotations

from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.ids import BlobRef
from gesso_protocol.spec import TrainLora, spec_ref
from gesso_protocol.trace import LeafKind, Slot
from gesso_protocol.training.openings import RunOpenings, losses_fit
from gesso_protocol.training.trace import TrainingFacts, segments


def opening_fault(spec: TrainLora, opened: RunOpenings) -> str:
    """Why complete openings are not those of a run of this spec; nothing when they are."""
    try:
        facts = opened.facts()
        if facts.steps_done > spec.steps or len(segments(spec, facts.steps_done)) != opened.layout.steps:
            return f"a run of {facts.steps_done} updates has another trace"
        if opened.layout.steps == 0:
            return "nothing was learnt, and nothing is what it is paid for"
        if not losses_fit(opened, spec, facts.steps_done):
            return "a log of losses has not one loss an update"
        dataset = opened.leaf(Slot(LeafKind.DATASET)).digest
    except EncodingInvalid as error:
        return error.message
    return "" if dataset == spec.dataset.value else "the run used another data set"


def manifest_fault(spec: TrainLora, manifest: BlobRef, facts: TrainingFacts, seed: bytes) -> str:
    """What the node says it ran against what it should have run. On which device is its own affair."""
    wanted: dict[str, object] = {
        "spec": spec_ref(spec),
        "model_manifest": manifest,
        "dataset": spec.dataset,
        "seed": seed.hex(),
        "start": None if spec.continue_from is None else spec.continue_from.manifest,
        "dtype": spec.dtype,
    }
    for name, value in wanted.items():
        if getattr(facts, name) != value:
            return f"{name} is {getattr(facts, name)}, the task says {value}"
    if facts.profile.partition("/")[0] != spec.dtype:
        return f"the profile {facts.profile} is not of the task's type"
    return ""
