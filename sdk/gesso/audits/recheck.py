"""Checking a task again from its public openings: the part that needs no model, and the rows of the whole report.

What needs the model is a `Replayer`, which the node package brings. Without it the verdict can be a flag, because what
is checked here is exact, and never a pass: `plausible` is the most that looking at latents can say.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from PIL import Image as Pillow
from pydantic_core import from_json

from gesso.audits.openings import Opened
from gesso.audits.subject import Subject
from gesso_protocol.audit.bundle import Bundle
from gesso_protocol.audit.compare import Branches, tensor
from gesso_protocol.audit.schedules import Schedule
from gesso_protocol.audit.transitions import OpenedPicture, TransitionReport, check_transitions
from gesso_protocol.audit.verdict import Inspection, Verdict, judge
from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.ids import BlobRef
from gesso_protocol.result import ResultManifest
from gesso_protocol.trace import LeafKind, Slot, TraceManifest

if TYPE_CHECKING:
    from gesso.audits.examine_run import RunSubject

Word: TypeAlias = Literal["pass", "plausible", "flag", "withheld", "cannot-tell"]
EXIT_CODES: Mapping[str, int] = {"pass": 0, "plausible": 0, "flag": 5, "withheld": 7, "cannot-tell": 8}
"""What `gesso task audit` exits with."""
ARITHMETIC = "arithmetic"
FAKE = "/fake"
"""Profiles of the engine that runs no model: it has a scheduler of its own, whatever the model says."""


@dataclass(frozen=True, slots=True)
class Row:
    """One check: what was looked at, how it went (None: not checked), and by how much."""

    check: str
    fine: bool | None
    detail: str = ""
    otherwise: str = "not checked"
    """What to say where it is neither fine nor wrong."""

    def document(self) -> dict[str, str]:
        """For printing."""
        words = {True: "ok", False: "WRONG", None: self.otherwise}
        return {"check": self.check, "result": words[self.fine], "detail": self.detail}


@dataclass(frozen=True, slots=True)
class Recheck:
    """A whole re-check. `error_of_limit` is the largest measured error as a share of its limit, if steps were run."""

    verdict: Word
    rows: tuple[Row, ...]
    error_of_limit: float | None = None
    profile: str = ""
    openings: BlobRef | None = None
    steps: tuple[tuple[int, int], ...] = ()

    @property
    def exit_code(self) -> int:
        """0 where nothing speaks against the work, 5 for a flag, 7 without openings, 8 when it cannot be told."""
        return EXIT_CODES[self.verdict]

    def document(self) -> dict[str, Any]:
        """For programs; steps are (picture, step), counted from 0."""
        return {
            "verdict": self.verdict,
            "error_of_limit": self.error_of_limit,
            "profile": self.profile,
            "openings": None if self.openings is None else str(self.openings),
            "steps": [list(place) for place in self.steps],
            "checks": [row.document() for row in self.rows],
        }


@dataclass(frozen=True)
class Files:
    """What else is public of a task: its result, its pictures (None: nobody has them), its model's scheduler file."""

    result: ResultManifest | None
    pictures: tuple[bytes | None, ...]
    scheduler_config: bytes | None


class Replayer(Protocol):
    """Runs parts of a task again on this machine. Raises GessoError when it cannot."""

    async def inspect(self, subject: Subject, opened: Bundle, files: Files) -> Inspection:
        """Steps of a picture task."""
        ...

    async def inspect_run(self, subject: RunSubject, data: bytes) -> tuple[Verdict, str]:
        """Segments of a training from these openings: the verdict, and the profile that the node committed."""
        ...


def judged(subject: Subject, opened: Opened, plain: Sequence[Row], found: Inspection) -> Recheck:
    """The report of a full inspection, with the rows of the plain one before it."""
    verdict = judge(found)
    unchecked = [row for row in plain if row.check == ARITHMETIC and row.fine is None]
    known = [row for row in plain if row not in unchecked]
    if unchecked and found.transitions is not None:
        known += _report_rows(found.transitions)
    rows = (*known, *_replay_rows(subject, found, verdict))
    word: Word = "flag" if any(row.fine is False for row in plain) else verdict.decision.value
    return Recheck(word, rows, verdict.max_error_of_limit, found.limit.profile, opened.blob, subject.checks)


def unreplayed(opened: Opened, plain: Sequence[Row], why: str) -> Recheck:
    """The report where no step could be run again: exact faults flag, and no fault is merely plausible."""
    rows = (*plain, Row("steps run again", None, why))
    wrong = any(row.fine is False for row in plain)
    return Recheck("flag" if wrong else "plausible", rows, None, "", opened.blob)


def withheld(reason: str) -> Recheck:
    """The report where nobody opens anything."""
    return Recheck("withheld", (Row("openings", None, reason),))


def without_model(subject: Subject, opened: Opened, files: Files) -> tuple[Row, ...]:
    """Everything that can be checked from openings alone. Pure, and quick beside running a step."""
    bundle = opened.bundle
    rows = [Row("openings", True, f"{len(bundle.leaves)} leaves prove the trace root on chain")]
    try:
        told = bundle.manifest()
    except EncodingInvalid as error:
        return (*rows, Row("manifest", False, error.message))
    config = b"" if told.profile.endswith(FAKE) else files.scheduler_config
    rows.append(_manifest_row(subject, told, config))
    rows += _transition_rows(subject, bundle, config)
    return (*rows, *_file_rows(subject, bundle, files))


def _manifest_row(subject: Subject, told: TraceManifest, config: bytes | None) -> Row:
    spec = subject.spec
    expected: dict[str, object] = {"model_manifest": subject.manifest, "scheduler": spec.scheduler, "dtype": spec.dtype}
    if config is not None:
        expected["scheduler_config"] = hashlib.sha256(config).hexdigest()
    for name, wanted in expected.items():
        if getattr(told, name) != wanted:
            return Row("manifest", False, f"{name} is {getattr(told, name)}, the task says {wanted}")
    return Row("manifest", True, f"model, scheduler and type are those of the task; profile {told.profile}")


def _transition_rows(subject: Subject, bundle: Bundle, config: bytes | None) -> list[Row]:
    spec = subject.spec
    if not config:
        return [Row(ARITHMETIC, None, "the model has no public scheduler file")]
    try:
        schedule = Schedule.of(from_json(config), spec.scheduler, spec.steps)
    except (EncodingInvalid, ValueError, AttributeError) as error:
        return [Row(ARITHMETIC, None, f"the scheduler is none that we know: {error}")]
    if schedule.ancestral:
        return [Row(ARITHMETIC, None, f"{spec.scheduler} adds noise that only torch draws")]
    pictures = [_picture(bundle, image) for image in range(spec.count)]
    return _report_rows(check_transitions(pictures, schedule, spec.guidance))


def _report_rows(report: TransitionReport) -> list[Row]:
    wrong, strange = report.mismatches, report.suspects
    return [
        Row("arithmetic", not wrong,
            f"{len(report.steps)} transitions, largest error {report.worst_arithmetic:.1e}" if not wrong
            else f"{len(wrong)} latents do not follow from the outputs, first at {_places(wrong[:3])}"),
        Row("implied noise", None if strange else True,
            f"most at {_places(strange[:3])}: no proof, but worth running again" if strange
            else "norm and turning inside the envelope", "unusual"),
    ]  # fmt: skip


def _picture(bundle: Bundle, image: int) -> OpenedPicture:
    steps = range(bundle.layout.steps)

    def at(kind: LeafKind, step: int = 0) -> Any:
        leaf = bundle.leaf(Slot(kind, image, step))
        return tensor(bytes(leaf.data), leaf.shape)

    guided = bundle.layout.guided
    return OpenedPicture(
        image=image,
        noise=at(LeafKind.NOISE),
        latents=[at(LeafKind.LATENT, step) for step in steps],
        outputs=[Branches(at(LeafKind.COND, step), at(LeafKind.UNCOND, step) if guided else None) for step in steps],
    )


def _file_rows(subject: Subject, bundle: Bundle, files: Files) -> list[Row]:
    rows = []
    for image in range(subject.spec.count):
        name = "picture" if subject.spec.count == 1 else f"picture {image + 1}"
        data = files.pictures[image] if image < len(files.pictures) else None
        if files.result is None or data is None:
            rows.append(Row(name, None, "nobody has the picture any more"))
            continue
        pixels = bundle.leaf(Slot(LeafKind.RGB, image))
        committed = bundle.leaf(Slot(LeafKind.FILE, image)).digest
        same = hashlib.sha256(data).digest() == committed and _pixels(data) == bytes(pixels.data)
        said = "file and pixels are those of the trace" if same else "the file is not the picture of the trace"
        rows.append(Row(name, same, said))
    return rows


def _pixels(data: bytes) -> bytes:
    try:
        with Pillow.open(io.BytesIO(data), formats=("PNG",)) as picture:
            return picture.convert("RGB").tobytes()
    except (OSError, ValueError, SyntaxError):
        return b""


def _replay_rows(subject: Subject, found: Inspection, verdict: Verdict) -> list[Row]:
    limit = found.limit
    rows = []
    if found.cannot_run:
        rows.append(Row("steps run again", None, found.cannot_run))
    wrong = {reason.fault.value for reason in verdict.reasons}
    if found.steps or found.noise_wrong:
        rows.append(Row("start noise", not found.noise_wrong, "drawn from the seed again, to the bit"))
    if found.embeddings:
        largest = max(found.embeddings)
        rows.append(Row("text embeddings", "embedding" not in wrong, f"error {largest:.1e} of {limit.tau_hard:.1e}"))
    for step in found.steps:
        fine = step.branch <= limit.tau_hard and step.guided <= limit.guided
        where = f"step {step.step + 1}" if subject.spec.count == 1 else f"picture {step.image + 1} step {step.step + 1}"
        shares = f"branch {step.branch:.1e} of {limit.tau_hard:.1e}, guided {step.guided:.1e} of {limit.guided:.1e}"
        rows.append(Row(where, fine, shares))
    if found.rgb:
        rows.append(Row("decode", "decode" not in wrong, f"{max(found.rgb)} grey levels of {limit.rgb_levels}"))
    if not limit.calibrated:
        rows.append(Row("limits", None, f"profile {limit.profile} is not calibrated: errors are scored, never proof"))
    return rows


def _places(places: Sequence[tuple[int, int]]) -> str:
    many = any(image for image, _ in places)
    return ", ".join(f"{image + 1}:{step + 1}" if many else f"step {step + 1}" for image, step in places)
