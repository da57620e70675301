"""From opened tensors to what is wrong with them: run parts of a task again, then compare with what the node committed.

Three replays, each of which needs no more trust than it has. *Ground*: what the spec alone gives (start noise,
embeddings, the scheduler's table). *Steps*: the checked steps from the node's latents. *Decode*: the last latents to
pixels. The first two need no outputs of the node, so an auditor seals its projection before it has seen any.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import anyio.to_thread

from gesso_node.auditing.assignment import Assignment
from gesso_node.auditing.stranger import pixels_of
from gesso_node.executors.port import Executor, ReplayCheck, Replayed, ReplayJob, ReplayOutcome
from gesso_node.models.cache import ModelCache, ModelSource
from gesso_protocol.audit.bundle import Bundle, Form, Leaf
from gesso_protocol.audit.compare import (
    Branches,
    Tensor,
    embedding_error,
    residual_cosine,
    rgb_error,
    step_errors,
    tensor,
)
from gesso_protocol.audit.limits import shipped_limits
from gesso_protocol.audit.projection import outputs_of, pack, project
from gesso_protocol.audit.schedules import Schedule
from gesso_protocol.audit.transitions import OpenedPicture, TransitionReport, check_transitions
from gesso_protocol.audit.verdict import Inspection
from gesso_protocol.errors import EncodingInvalid, GessoError
from gesso_protocol.ids import Address
from gesso_protocol.result import ResultManifest
from gesso_protocol.trace import LeafKind, Slot, TraceManifest

SCHEDULER_CONFIG = "scheduler/scheduler_config.json"
MAX_RECHECKS = 3
"""Steps that look wrong without a model and are run again beyond the drawn ones."""
Place = tuple[int, int]


class CannotRunError(GessoError):
    """This machine cannot run the task again. `hopeless`: another try would end the same way."""

    code = "cannot-run"
    default_message = "this machine cannot run the task again"
    default_hint = "see what the executor says in the log"
    exit_code = 5

    def __init__(self, message: str, *, hopeless: bool) -> None:
        super().__init__(message)
        self.hopeless = hopeless


def unforeseen(error: Exception) -> CannotRunError:
    """What a stranger made broke our code; another try may tell whether it was that."""
    return CannotRunError(f"{type(error).__name__} while it was looked at", hopeless=False)


@dataclass(frozen=True)
class Ground:
    """What the spec alone gives, computed here. `scheduler_file` is the model's own scheduler_config.json."""

    replayed: Replayed
    schedule: Schedule
    scheduler_file: bytes

    def noise_shape_fits(self, leaf: Leaf, image: int) -> bool:
        """Whether an opened latent is a tensor with as many bytes as ours."""
        return leaf.form is Form.FP32 and len(leaf.data) == len(self.replayed.noises.get(image, b""))


@dataclass(frozen=True)
class Redone:
    """The checked steps, computed here from the node's latents. `wrong` says why that could not be, by its fault."""

    outputs: Mapping[Place, Branches]
    wrong: str = ""

    def projection(self, challenge: bytes, checks: Sequence[Place]) -> bytes:
        """128 bytes as they go on chain. Raises EncodingInvalid when nothing was computed."""
        return pack(project(challenge, outputs_of([self.outputs[place] for place in checks])))


class Inspector:
    """Runs parts of tasks again on this node's executor."""

    def __init__(
        self,
        executor: Executor,
        models: ModelCache,
        *,
        needs_model: bool,
        source: Callable[[Address], ModelSource] | None = None,
    ) -> None:
        """`source`: where models come from that no store of ours has, by the task's node."""
        self._executor = executor
        self._source = source
        self._models = models
        self._needs_model = needs_model

    async def ground(self, assignment: Assignment, *, strict: bool, deadline_s: float) -> Ground:
        """Fetch the model if it is missing, then compute what the spec alone gives. Raises CannotRunError, and what
        the model cache raises."""
        job = self._job(assignment, strict, deadline_s)
        wanted = replace(job, images=tuple(range(assignment.spec.count)), embeddings=True)
        replayed = await self._replay(wanted, assignment.filing.node)
        try:
            schedule = Schedule.of(replayed.scheduler_config, assignment.spec.scheduler, assignment.spec.steps)
        except EncodingInvalid as error:
            raise CannotRunError(f"the model's scheduler is none we know: {error.message}", hopeless=True) from error
        return Ground(replayed, schedule, await anyio.to_thread.run_sync(self._scheduler_file, assignment))

    async def steps(
        self,
        assignment: Assignment,
        ground: Ground,
        opened: Bundle,
        places: Sequence[Place],
        *,
        strict: bool,
        deadline_s: float,
    ) -> Redone:
        """Run these steps from the opened latents. Raises CannotRunError."""
        checks = []
        for image, step in places:
            slot = Slot(LeafKind.LATENT, image, step - 1) if step else Slot(LeafKind.NOISE, image)
            leaf = opened.leaf(slot)
            if not ground.noise_shape_fits(leaf, image):
                return Redone({}, f"the latent of picture {image} before step {step} has another size")
            checks.append(ReplayCheck(image, step, _start(bytes(leaf.data), leaf.shape, step, ground.schedule)))
        job = self._job(assignment, strict, deadline_s)
        wanted = replace(job, checks=tuple(checks), embeddings=False)
        replayed = await self._replay(wanted, assignment.filing.node)
        shape = _shape(opened, places)
        outputs = {place: _branches(*replayed.outputs[place], shape) for place in places}
        return Redone(outputs)

    async def decode(
        self, assignment: Assignment, ground: Ground, opened: Bundle, *, strict: bool, deadline_s: float
    ) -> Mapping[int, bytes]:
        """Pixels of every last latent. Raises EncodingInvalid for latents that are none, CannotRunError."""
        spec = assignment.spec
        leaves = [opened.leaf(Slot(LeafKind.LATENT, image, spec.steps - 1)) for image in range(spec.count)]
        for image, leaf in enumerate(leaves):
            if not ground.noise_shape_fits(leaf, image):
                # Left to the executor this would look as if our machine could not run the task.
                raise EncodingInvalid(f"the last latent of picture {image} has another size")
        last = tuple((image, bytes(leaf.data)) for image, leaf in enumerate(leaves))
        job = self._job(assignment, strict, deadline_s)
        wanted = replace(job, decode=last, embeddings=False)
        return (await self._replay(wanted, assignment.filing.node)).rgb

    def _job(self, assignment: Assignment, strict: bool, deadline_s: float) -> ReplayJob:
        weights = self._needs_model
        return ReplayJob(
            spec=assignment.spec,
            model_dir=self._models.path(assignment.manifest) if weights else None,
            manifest=assignment.manifest,
            strict=strict,
            deadline_s=max(1.0, deadline_s),
            loras=tuple(self._models.path(one.manifest) for one in assignment.spec.loras) if weights else (),
        )

    async def _replay(self, job: ReplayJob, node: Address) -> Replayed:
        if not self._needs_model:
            return _finished(await self._executor.replay(job))
        needed = (job.manifest, *(one.manifest for one in job.spec.loras))
        async with AsyncExitStack() as using:
            for manifest in needed:
                source = None if self._source is None else self._source(node)
                await using.enter_async_context(self._models.held(manifest, source=source))
            return _finished(await self._executor.replay(job))

    def _scheduler_file(self, assignment: Assignment) -> bytes:
        path = self._models.path(assignment.manifest) / SCHEDULER_CONFIG if self._needs_model else None
        return path.read_bytes() if path is not None and path.is_file() else b""


@dataclass(frozen=True)
class Files:
    """The pictures that the result names, by number; None for one that nobody has."""

    manifest: ResultManifest | None
    data: Mapping[int, bytes | None]


def inspect(
    assignment: Assignment,
    ground: Ground,
    redone: Redone,
    opened: Bundle,
    rgb: Mapping[int, bytes],
    files: Files,
    *,
    strict: bool,
) -> Inspection:
    """Compare. `opened` must be complete. Pure, but heavy: call it in a thread."""
    try:
        told = opened.manifest()
    except EncodingInvalid as error:
        return Inspection(limit=shipped_limits().row("", ""), manifest_wrong=error.message)
    limits, mine = shipped_limits(), ground.replayed.profile_key
    limit = limits.for_juror(told.profile, mine) if strict else limits.row(told.profile, mine)
    spec = assignment.spec
    theirs = {place: opened_branches(opened, *place) for place in redone.outputs}
    return Inspection(
        limit=limit,
        steps=tuple(
            step_errors(*place, own, theirs[place], spec.guidance) for place, own in sorted(redone.outputs.items())
        ),
        embeddings=_embedding_errors(ground, opened),
        rgb=tuple(rgb_error(rgb[image], opened.tensor(Slot(LeafKind.RGB, image)))[0] for image in sorted(rgb)),
        transitions=transitions(assignment, ground, opened),
        residual_cosine=_push(redone.outputs, theirs),
        opening_wrong=redone.wrong,
        manifest_wrong=_manifest_fault(assignment, ground, told),
        noise_wrong=tuple(
            image
            for image, noise in sorted(ground.replayed.noises.items())
            if opened.tensor(Slot(LeafKind.NOISE, image)) != noise
        ),
        files_wrong=tuple(image for image in range(spec.count) if _file_wrong(assignment, opened, files, image)),
    )


def transitions(assignment: Assignment, ground: Ground, opened: Bundle) -> TransitionReport:
    """The check without a model, over every step of every picture."""
    spec = assignment.spec
    pictures = []
    for image in range(spec.count):
        shape = opened.leaf(Slot(LeafKind.NOISE, image)).shape
        noises = {
            step: tensor(noise, shape)
            for (of, step), noise in ground.replayed.step_noises.items()
            if of == image and len(noise) == len(ground.replayed.noises[image])
        }
        pictures.append(
            OpenedPicture(
                image=image,
                noise=_tensor(opened, Slot(LeafKind.NOISE, image)),
                latents=[_tensor(opened, Slot(LeafKind.LATENT, image, step)) for step in range(spec.steps)],
                outputs=[opened_branches(opened, image, step) for step in range(spec.steps)],
                step_noises=noises,
            )
        )
    return check_transitions(pictures, ground.schedule, spec.guidance)


def opened_branches(opened: Bundle, image: int, step: int) -> Branches:
    """What the node committed as the model's outputs of one step."""
    uncond = Slot(LeafKind.UNCOND, image, step)
    return Branches(
        _tensor(opened, Slot(LeafKind.COND, image, step)), _tensor(opened, uncond) if opened.layout.guided else None
    )


def _tensor(opened: Bundle, slot: Slot) -> Tensor:
    leaf = opened.leaf(slot)
    return tensor(bytes(leaf.data), leaf.shape)


def _branches(cond: bytes, uncond: bytes | None, shape: tuple[int, ...]) -> Branches:
    return Branches(tensor(cond, shape), None if uncond is None else tensor(uncond, shape))


def _shape(opened: Bundle, places: Sequence[Place]) -> tuple[int, ...]:
    image, step = places[0]
    return opened.leaf(Slot(LeafKind.LATENT, image, step - 1) if step else Slot(LeafKind.NOISE, image)).shape


def _start(data: bytes, shape: tuple[int, ...], step: int, schedule: Schedule) -> bytes:
    """x before the step: the latent, or the scaled noise."""
    if step:
        return data
    scaled = tensor(data, shape).astype("<f8") * schedule.init_noise_sigma
    return scaled.astype("<f4").tobytes()


def _embedding_errors(ground: Ground, opened: Bundle) -> tuple[float, ...]:
    own = ground.replayed.embeddings
    if own is None:
        return ()
    errors = []
    for step, mine in enumerate(own):
        theirs = opened.tensor(Slot(LeafKind.EMBEDDING, 0, step))
        flat = (len(theirs) // 4,)
        own_part = tensor(mine, (len(mine) // 4,))
        errors.append(embedding_error(own_part, tensor(theirs, flat), ground.replayed.embedding_parts))
    return tuple(errors)


def _push(own: Mapping[Place, Branches], theirs: Mapping[Place, Branches]) -> float:
    places = sorted(own)
    if len(places) < 2:
        return 0.0
    first, second = places[:2]
    return residual_cosine((own[first].cond, theirs[first].cond), (own[second].cond, theirs[second].cond))


def _manifest_fault(assignment: Assignment, ground: Ground, told: TraceManifest) -> str:
    """What the node ran against what it should have run. On which device is its own affair, the type is not."""
    wanted = TraceManifest.of(assignment.spec, assignment.manifest, ground.scheduler_file, told.profile)
    for name in ("model_manifest", "loras", "scheduler", "scheduler_config", "dtype"):
        if getattr(told, name) != getattr(wanted, name):
            return f"{name} is {getattr(told, name)}, the task says {getattr(wanted, name)}"
    if told.profile.partition("/")[0] != assignment.spec.dtype:
        return f"the profile {told.profile} is not of the task's type"
    return ""


def _file_wrong(assignment: Assignment, opened: Bundle, files: Files, image: int) -> bool:
    """Whether a picture's file is not its committed pixels, or not what the result names. What nobody has is not held
    against the node here: the requester would have noticed."""
    spec, told = assignment.spec, files.manifest
    pixels = opened.leaf(Slot(LeafKind.RGB, image))
    if told is not None:
        entry = next((entry for entry in told.images if entry.index == image), None)
        committed = opened.leaf(Slot(LeafKind.FILE, image)).digest.hex()
        if entry is None or entry.sha256 != committed or (entry.width, entry.height) != (spec.width, spec.height):
            return True
    data = files.data.get(image)
    if data is None:
        return False
    return pixels_of(data, spec.width, spec.height) != bytes(pixels.data)


def _finished(outcome: ReplayOutcome) -> Replayed:
    if isinstance(outcome, Replayed):
        return outcome
    kind = type(outcome).__name__
    raise CannotRunError(f"{kind}: {outcome.reason}", hopeless=kind in ("OutOfMemory", "Unfit"))
