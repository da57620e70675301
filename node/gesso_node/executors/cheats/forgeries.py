"""Forged walks, the same for every engine. What they commit to is consistent: every transition follows from the outputs
that stand beside it, so that nothing but the check made for a cheat can find it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np

from gesso_node.executors.replay import Steps
from gesso_node.executors.walk import F32, Stepped, Walk, array, guided
from gesso_protocol.audit.schedules import Schedule
from gesso_protocol.errors import ModelInvalid
from gesso_protocol.spec import MAX_SEED, TextToImage

OTHER_PROMPT = "a small green cross on a purple background"
STORED_SEED = 7_919
"""Added to the ordered seed: the seed of the stored picture."""
LATE = 0.6
"""Share of the steps after which guidance is switched off."""
SPREAD = 0.8
"""Share of the steps over which a jump is spread."""
SKIP_EVERY = 4
EXPLAINED = 1e-6
"""Relative difference up to which a stored latent follows from its stored outputs."""


class Kit(Protocol):
    """What a forger has: the engine's model, and variants of it."""

    spec: TextToImage
    scheduler_config: dict[str, Any]

    def steps(self, spec: TextToImage | None = None, *, prompt: str | None = None, variant: str | None = None) -> Steps:
        """The model for another spec, another prompt, or with other weights (a cheat's name)."""
        ...


def forged_walk(name: str, kit: Kit) -> Walk:
    """The walk of a cheat by its name; an honest one for cheats of the node itself. Raises ModelInvalid."""
    made = _WALKS.get(name)
    if made is not None:
        return made(kit)
    schedule = Schedule.of(kit.scheduler_config, kit.spec.scheduler, kit.spec.steps)
    return Walk(kit.spec, kit.steps(variant=name), schedule)


class _Forgery(Walk):
    """A walk with a kit, which can tell which outputs would make any transition look right."""

    def __init__(self, kit: Kit) -> None:
        schedule = Schedule.of(kit.scheduler_config, kit.spec.scheduler, kit.spec.steps)
        super().__init__(kit.spec, kit.steps(), schedule)
        self.kit = kit

    def outputs_for(
        self, step: int, before: F32, after: F32, previous: tuple[F32, F32] | None, noise: F32 | None
    ) -> tuple[F32, F32 | None]:
        """Branch outputs from which `after` follows. Both branches are equal, so guidance changes nothing."""
        zero, one = np.zeros_like(before), np.ones_like(before)
        base = self.schedule.step(step, before, zero, previous, noise)
        factor = self.schedule.step(step, before, one, previous, noise) - base
        output = ((after - base) / factor).astype(np.float32)
        return output, output if self.spec.guidance > 1 else None

    def along(self, image: int, path: list[F32], true: list[Stepped] | None = None) -> Iterator[Stepped]:
        """Steps that follow a path of latents (before step 0, then after every step), whatever the model says.

        `true` are outputs that the model really gave along this path: they are used wherever they explain it.
        """
        noises = self.step_noises(image)
        previous: tuple[F32, F32] | None = None
        latent = path[0]
        for step, wanted in enumerate(path[1:]):
            noise = noises[step] if noises else None
            cond, uncond = self.outputs_for(step, latent, wanted, previous, noise)
            if true is not None and self._explains(true[step], step, latent, previous, noise):
                cond, uncond = true[step].cond, true[step].uncond
            output = guided(cond, uncond, self.spec.guidance)
            # What is committed is what really follows, so that rounding gives nothing away either.
            after = self.advance(step, latent, output, previous, noise)
            previous, latent = (latent, output), after
            yield Stepped(after, cond, uncond)

    def _explains(
        self, true: Stepped, step: int, latent: F32, previous: tuple[F32, F32] | None, noise: F32 | None
    ) -> bool:
        output = guided(true.cond, true.uncond, self.spec.guidance)
        after = self.advance(step, latent, output, previous, noise)
        return bool(np.linalg.norm(after - true.latent) < EXPLAINED * np.linalg.norm(true.latent))

    def stored(self, image: int) -> tuple[list[F32], list[Stepped]]:
        """A finished picture of the same prompt and another seed: its latents from the start on, and its steps."""
        spec = self.spec.model_copy(update={"seed": (self.spec.seed + STORED_SEED) % (MAX_SEED + 1)})
        walk = Walk(spec, self.kit.steps(spec), self.schedule)
        steps = list(walk.latents(image))
        return [walk.start(image), *(step.latent for step in steps)], steps


class FewerSteps(_Forgery):
    """Half of the steps with a schedule of their own; what lies between is drawn as straight lines."""

    def latents(self, image: int) -> Iterator[Stepped]:
        total = self.spec.steps
        fewer = self.spec.model_copy(update={"steps": max(1, total // 2)})
        schedule = Schedule.of(self.kit.scheduler_config, fewer.scheduler, fewer.steps)
        walk = Walk(fewer, self.kit.steps(fewer), schedule)
        points = [self.start(image), *(step.latent for step in walk.latents(image))]
        places = np.arange(total + 1) * fewer.steps / total
        path = [points[0]]
        for place in places[1:]:
            low = min(int(place), fewer.steps - 1)
            share = np.float32(place - low)
            path.append((1 - share) * points[low] + share * points[low + 1])
        return self.along(image, path)


class SkipSteps(_Forgery):
    """Every fourth output is continued from the two before it instead of computed."""

    def __init__(self, kit: Kit) -> None:
        super().__init__(kit)
        self._seen: list[tuple[F32, F32 | None]] = []

    def predict(self, image: int, step: int, latent: F32) -> tuple[F32, F32 | None]:
        if step == 0:
            self._seen = []
        if step % SKIP_EVERY == SKIP_EVERY - 1:
            (first, first_base), (second, second_base) = self._seen[-2:]
            base = None if first_base is None or second_base is None else _continued(first_base, second_base)
            outputs = _continued(first, second), base
        else:
            outputs = super().predict(image, step, latent)
        self._seen.append(outputs)
        return outputs


def _continued(first: F32, second: F32) -> F32:
    return (2 * second - first).astype(np.float32)


class ReusedOutputs(_Forgery):
    """Every second step uses the outputs of the one before it."""

    def __init__(self, kit: Kit) -> None:
        super().__init__(kit)
        self._kept: tuple[F32, F32 | None] | None = None

    def predict(self, image: int, step: int, latent: F32) -> tuple[F32, F32 | None]:
        if step % 2 == 0 or self._kept is None:
            self._kept = super().predict(image, step, latent)
        return self._kept


class OneBranch(_Forgery):
    """Guidance is switched off from some step on: only one branch is computed, and passed for both."""

    def __init__(self, kit: Kit, since: float = 0.0) -> None:
        super().__init__(kit)
        self._alone = kit.steps(kit.spec.model_copy(update={"guidance": 1.0}))
        self._since = since

    def predict(self, image: int, step: int, latent: F32) -> tuple[F32, F32 | None]:
        if self.spec.guidance <= 1 or step < self._since * self.spec.steps:
            return super().predict(image, step, latent)
        cond = array(self._alone.predict(step, latent.tobytes())[0])
        return cond, cond


class OtherPrompt(_Forgery):
    """Computes another prompt and commits to the embeddings of the right one."""

    def __init__(self, kit: Kit) -> None:
        super().__init__(kit)
        self._other = kit.steps(prompt=OTHER_PROMPT)

    def predict(self, image: int, step: int, latent: F32) -> tuple[F32, F32 | None]:  # noqa: ARG002 - as the port has it
        cond, uncond = self._other.predict(step, latent.tobytes())
        return array(cond), None if uncond is None else array(uncond)


class Cached(_Forgery):
    """One jump from the ordered noise into a stored trajectory; every later output is a true one where it can be."""

    def latents(self, image: int) -> Iterator[Stepped]:
        path, steps = self.stored(image)
        return self.along(image, [self.start(image), *path[1:]], steps)


class SpreadJump(_Forgery):
    """The way to a stored picture, entered little by little: the difference of both noises fades out."""

    def latents(self, image: int) -> Iterator[Stepped]:
        path, steps = self.stored(image)
        difference = self.start(image) - path[0]
        last = max(1.0, SPREAD * self.spec.steps)
        fading = [np.float32(max(0.0, 1 - step / last) ** 2) for step in range(len(path))]
        entered = [latent + share * difference for latent, share in zip(path, fading, strict=True)]
        return self.along(image, entered, steps)


class Bridge(_Forgery):
    """A straight way to a stored picture: at every step the same noise, and that one has the right norm."""

    def latents(self, image: int) -> Iterator[Stepped]:
        picture = self.stored(image)[0][-1]
        noise = self.noise(image)
        levels = [noise_level(self.schedule, step) for step in range(1, self.spec.steps)]
        way = [np.float32(signal) * picture + np.float32(level) * noise for signal, level in levels]
        return self.along(image, [self.start(image), *way, picture])


def noise_level(schedule: Schedule, step: int) -> tuple[float, float]:
    """How much picture and how much noise x holds before `step`: x = signal * picture + level * noise."""
    alpha, sigma = schedule.before[step]
    return (1.0, sigma / alpha) if schedule.name in ("euler", "euler_a") else (alpha, sigma)


class SwapImage(_Forgery):
    """Everything is honest but the picture, which is another one."""

    def rgb(self, image: int, last: F32) -> bytes:
        return super().rgb(image, -last)


class WrongNoise(_Forgery):
    """Starts from the noise of another seed, as one who has a picture of that seed would like to."""

    def noise(self, image: int) -> F32:
        return array(self._other().noise(image))

    def _other(self) -> Steps:
        return self.kit.steps(self.spec.model_copy(update={"seed": (self.spec.seed + STORED_SEED) % (MAX_SEED + 1)}))


_WALKS: dict[str, Callable[[Kit], Walk]] = {
    "fewer-steps": FewerSteps,
    "skip-steps": SkipSteps,
    "output-reuse": ReusedOutputs,
    "low-guidance": OneBranch,
    "late-guidance": lambda kit: OneBranch(kit, LATE),
    "other-prompt": OtherPrompt,
    "cached": Cached,
    "spread-jump": SpreadJump,
    "bridge": Bridge,
    "swap-image": SwapImage,
    "wrong-noise": WrongNoise,
}


def known_variant(name: str, known: tuple[str, ...]) -> str:
    """`name` when an engine has such weights. Raises ModelInvalid."""
    if name not in known:
        raise ModelInvalid(f"this engine has no cheat called {name!r}")
    return name
