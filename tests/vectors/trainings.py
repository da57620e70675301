"""Golden vectors of trainings: what is handed on, what is audited, and what a part is worth."""

from __future__ import annotations

from typing import Any

import numpy as np
from made_up import address, hexed, made_up

from gesso_protocol.audit.projection import pack
from gesso_protocol.hashing import sha256, word
from gesso_protocol.ids import BlobRef, TaskId
from gesso_protocol.money import Wei
from gesso_protocol.policy import Price
from gesso_protocol.spec import spec_ref
from gesso_protocol.trace import Binding, LeafKind, Slot, trace_leaves, trace_root
from gesso_protocol.training.audit import fingerprint, input_slots, segments_to_check
from gesso_protocol.training.checkpoint import Resume, checkpoint_digest
from gesso_protocol.training.disk import checkpoint_pixel_steps, likely_state_bytes, needed_bytes
from gesso_protocol.training.draws import run_seed
from gesso_protocol.training.openings import RunLeaf, RunOpenings
from gesso_protocol.training.presets import make_training
from gesso_protocol.training.share import share_of
from gesso_protocol.training.trace import TrainingLayout, segments


def checkpoint_rows() -> list[dict[str, Any]]:
    """A run and the rest of it: its seed, what its node signs, and both specs."""
    rows = []
    for index in range(4):
        chain_id, board, task = 1 + 31336 * index, address("board", index), TaskId(made_up("task", index))
        beacon, state, step, size = (
            made_up("beacon", index),
            BlobRef(made_up("state", index)),
            20 * (index + 1),
            9 + index,
        )
        whole = make_training("gesso-tiny@1", dataset=BlobRef(made_up("dataset", index)), steps=100 + index, seed=index)
        seed = run_seed(beacon, task.value, whole.seed)
        rest = whole.rest(Resume(task=task, seed=seed.hex(), step=step, state=state, size=size))
        rows.append(
            {
                "chainId": chain_id,
                "board": str(board),
                "task": hexed(task.value),
                "beacon": hexed(beacon),
                "specSeed": whole.seed,
                "runSeed": hexed(seed),
                "state": hexed(state.value),
                "step": step,
                "size": size,
                "digest": hexed(checkpoint_digest(chain_id, board, task, state, step, size, seed)),
                "whole": hexed(spec_ref(whole).value),
                "rest": hexed(rest.encode()),
                "segments": hexed(b"".join(word(one.first) + word(one.last) for one in segments(rest))),
            }
        )
    return rows


def training_rows() -> list[dict[str, Any]]:
    """An audit of a training: the drawn segments, phase `inputs` as openings, what an auditor seals of one update."""
    rows = []
    for index in range(4):
        binding = Binding(31337, address("board"), TaskId(made_up("task", index)), address("node", index), made_up("s"))
        spec = make_training("gesso-tiny@1", dataset=BlobRef(made_up("dataset")), steps=20 * (3 * index + 1))
        layout, drawn = TrainingLayout.for_run(spec), made_up("challenge", index)
        digests = {slot: made_up("digest", at) for at, slot in enumerate(layout.slots())}
        digests[Slot(LeafKind.MANIFEST)] = sha256(b"{}")
        tree = trace_leaves(binding, layout, digests)
        checks = segments_to_check(drawn, spec, spec.steps)
        leaves = [
            RunLeaf.inline(slot, binding.salt(slot), b"{}") if slot.kind is LeafKind.MANIFEST
            else RunLeaf(slot, binding.salt(slot), digests[slot]) if slot.kind is LeafKind.DATASET
            else RunLeaf.file(slot, binding.salt(slot), digests[slot], BlobRef(made_up("blob", slot.step)), 1000)
            for slot in input_slots(checks)
        ]  # fmt: skip
        update = np.frombuffer(b"".join(made_up("update", at) for at in range(4)), "<u1").astype(np.float32) / 256
        zeros = {"a": np.zeros(64, np.float32), "b": np.zeros((8, 8), np.float32)}
        ends = {"a": update[:64], "b": update[64:].reshape(8, 8)}
        rows.append(
            {
                "challenge": hexed(drawn),
                "segments": layout.steps,
                "drawn": hexed(b"".join(word(one.number) for one in checks)),
                "traceRoot": hexed(trace_root(tree).value),
                "openings": hexed(RunOpenings.encode(leaves, tree, layout)),
                "update": hexed(update.astype("<f4").tobytes()),
                "sealed": hexed(pack(fingerprint(drawn, spec, [(zeros, ends)]))),
            }
        )
    return rows


def price_rows() -> list[dict[str, Any]]:
    """What trainings cost on bases of so many bytes: a rest, whose state's size is known, among them, and states that
    are as large as the rules let them be."""
    every = ("attention", "convolution", "feed_forward", "projection")
    shapes: list[dict[str, Any]] = [
        {"steps": 400},
        {"steps": 1000, "checkpoint_every": 1, "rank": 128, "alpha": 128, "resolution": 64, "batch": 1},
        {"steps": 13, "checkpoint_every": 5, "targets": every, "text_encoder": True},
        {"steps": 100, "sample_prompts": ("a", "b"), "sample_every": 30, "sample_steps": 17},
    ]
    rows = []
    for index, shape in enumerate(shapes):
        whole = make_training("gesso-tiny@1", dataset=BlobRef(made_up("dataset", index)), **shape)
        task, state = TaskId(made_up("task", index)), BlobRef(made_up("state", index))
        step, seed = whole.checkpoint_every, made_up("seed", index).hex()
        resume = Resume(task=task, seed=seed, step=step, state=state, size=12_345_678)
        for spec in (whole, whole.rest(resume)):
            for base in (0, 20_000_003, 6_900_000_000):
                price = Price(base=Wei(10**16), per_megapixel_step=Wei(10**14 + 7))
                rows.append(
                    {
                        "spec": hexed(spec.encode()),
                        "baseBytes": base,
                        "stateBytes": likely_state_bytes(spec, base),
                        "diskBytes": needed_bytes(spec, base),
                        "pixelSteps": spec.pixel_steps,
                        "checkpointPixelSteps": checkpoint_pixel_steps(spec, base),
                        "base": hex(price.base),
                        "perMegapixelStep": hex(price.per_megapixel_step),
                        "price": hex(price.quote(spec, base)),
                    }
                )
    return rows


def share_rows() -> list[dict[str, Any]]:
    """The share of a task's work, in basis points, when it ends after update `done` of the run: whole runs and rests,
    with and without samples on the way, a prior, several pictures an update, and numbers that do not divide."""
    shapes: list[dict[str, Any]] = [
        {"steps": 400},
        {"steps": 13, "checkpoint_every": 5, "batch": 2},
        {"steps": 100, "sample_prompts": ("a", "b"), "sample_every": 30, "sample_steps": 17},
        {"steps": 101, "accumulation": 3, "prior_milli": 500, "prior_prompts": ("p",)},
        {"steps": 60, "batch": 1, "sample_prompts": ("a", "b", "c", "d"), "sample_steps": 100},
        {"steps": 20_000, "batch": 64, "checkpoint_every": 20, "sample_prompts": ("a",), "sample_every": 100},
    ]
    rows = []
    for index, shape in enumerate(shapes):
        whole = make_training("gesso-tiny@1", dataset=BlobRef(made_up("dataset", index)), **shape)
        every, steps = whole.checkpoint_every, whole.steps
        first = steps // every // 2 * every
        resume = Resume(task=TaskId(made_up("task", index)), seed=made_up("seed", index).hex(), step=max(first, every),
                        state=BlobRef(made_up("state", index)), size=9)  # fmt: skip
        for spec in (whole, whole.rest(resume)):
            ends = {spec.first_step, spec.first_step + every, steps - steps % every or steps, steps}
            rows += [
                {"spec": hexed(spec.encode()), "done": done, "ordered": spec.passes(steps),
                 "passes": spec.passes(done) if done > spec.first_step else 0, "share": share_of(spec, done)}
                for done in sorted(one for one in ends if one <= steps)
            ]  # fmt: skip
    return rows
