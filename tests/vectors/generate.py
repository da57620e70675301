"""Golden vectors: inputs and answers of the rules that Python and Solidity must agree on, as flat arrays.

Every file maps names to arrays of one length; entry i of each array belongs to case i. Integers that may exceed 53 bits
are 0x text, bytes are 0x text. `bytes` of several words (proofs, leaves of a tree) are simply joined.
Run through scripts/vectors; with --check nothing is written and the exit code says whether the files are up to date.
"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from typing import Any

from made_up import address, hexed, made_up
from trainings import checkpoint_rows, price_rows, share_rows, training_rows

from gesso_protocol import merkle, sortition
from gesso_protocol.audit import challenge as audit
from gesso_protocol.audit.compare import tensor
from gesso_protocol.audit.projection import pack, project
from gesso_protocol.audit.rules import AuditRules
from gesso_protocol.encoding import Document
from gesso_protocol.handover import handover_digest
from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import BlobRef, ListingId, Root, TaskId
from gesso_protocol.manifest import CHUNK_BYTES, BlobManifest, FileEntry, ModelManifest
from gesso_protocol.messages import TaskAnnouncement
from gesso_protocol.money import MAX_FEE, Wei, part_of, split_along, split_fee
from gesso_protocol.policy import Offer
from gesso_protocol.result import ImageEntry, ResultManifest, result_root
from gesso_protocol.spec import TextToImage, spec_ref
from gesso_protocol.terms import AuditMode, Terms, task_id
from gesso_protocol.trace import Binding, Layout, TensorType, tensor_digest, trace_leaves, trace_root

FOLDER = Path(__file__).parent
Columns = dict[str, list[Any]]


def columns(rows: list[dict[str, Any]]) -> Columns:
    return {name: [row[name] for row in rows] for name in rows[0]}


def terms_rows() -> list[dict[str, Any]]:
    """Terms, the board they are for, and the task id; among them the largest value of every field."""
    rows = []
    for index in range(8):
        largest = index == 7
        chain_id = [1, 31337, 8453, 2**53 - 1][index % 4]
        board = address("board", index)
        terms = Terms(
            requester=address("requester", index),
            fee=Wei(MAX_FEE if largest else index * 10**16),
            spec=BlobRef(made_up("spec", index)),
            model=ListingId(2**64 - 1 if largest else index),
            kind=255 if largest else 1,
            claim_window_s=2**32 - 1 if largest else 60 * index,
            commit_window_s=2**32 - 1 if largest else 300 + index,
            nonce=2**64 - 1 if largest else index * 7919,
            audit=AuditMode(index % 3),
        )
        rows.append(
            {
                "chainId": hex(chain_id),
                "board": str(board),
                "requester": str(terms.requester),
                "fee": hex(terms.fee),
                "spec": hexed(terms.spec.value),
                "model": hex(terms.model),
                "kind": terms.kind,
                "claimWindow": terms.claim_window_s,
                "commitWindow": terms.commit_window_s,
                "nonce": hex(terms.nonce),
                "audit": int(terms.audit),
                "taskId": hexed(task_id(chain_id, board, terms).value),
            }
        )
    return rows


def sortition_rows() -> list[dict[str, Any]]:
    """Scores and thresholds: small and large networks, every early step, and the place where doubling saturates."""
    networks = [(1, 1), (3, 1), (10, 10), (1000, 1), (2**64 - 1, 1), (2**64 - 1, 2**32 - 1), (7, 7), (255, 3)]
    times = [0, 1, 4, 5, 9, 10, 60, 255 * 5, 256 * 5, 2**32 - 1]
    rows = []
    for index in range(80):
        total, weight = networks[index % len(networks)]
        elapsed, step = times[index // len(networks)], 5
        seed = int.from_bytes(made_up("seed", index, 16), "big") if index else 0
        task, node = TaskId(made_up("task", index)), address("node", index)
        score = sortition.score(sortition.seed_bytes(seed), task, node)
        at = sortition.may_claim_at(score, total, weight, step)
        rows.append(
            {
                "seed": f"0x{seed:032x}",
                "taskId": hexed(task.value),
                "node": str(node),
                "score": f"0x{score:064x}",
                "totalWeight": hex(total),
                "weight": weight,
                "elapsed": elapsed,
                "step": step,
                "threshold": f"0x{sortition.threshold(total, weight, elapsed, step):064x}",
                "mayClaim": sortition.may_claim(score, total, weight, elapsed, step),
                "mayClaimAt": at,
            }
        )
    return rows


def fee_rows() -> list[dict[str, Any]]:
    """Splits of fees, among them the ones that round and the largest fee there is."""
    rows = []
    for fee in (0, 1, 9_999, 10_000, 10_001, 20_000_000_000_000_000, 123_456_789_123_456_789, MAX_FEE):
        for royalty, protocol in ((0, 0), (1, 1), (500, 250), (2_500, 2_000), (5_000, 0), (0, 2_000), (333, 667)):
            split = split_fee(fee, royalty, protocol)
            rows.append(
                {
                    "fee": hex(fee),
                    "royaltyBps": royalty,
                    "protocolBps": protocol,
                    "toNode": hex(split.node),
                    "royalty": hex(split.royalty),
                    "protocolFee": hex(split.protocol),
                }
            )
    return rows


def royalty_rows() -> list[dict[str, Any]]:
    """Splits along a listing and its parents; `royaltyBps` and `royalties` are words, the listing's own first."""
    rows = []
    for fee in (0, 1, 9_999, 20_000, 20_000_000_000_000_000, 123_456_789_123_456_789, MAX_FEE):
        for lineage, protocol in (
            ((), 250),
            ((500,), 250),
            ((500, 300), 100),
            ((1, 9_998), 1),
            ((333, 0, 667), 2_000),
            ((1250, 1250, 1250, 1250), 2_000),
            ((0, 0, 0, 1), 0),
        ):
            shares = split_along(fee, lineage, protocol)
            rows.append(
                {
                    "fee": hex(fee),
                    "royaltyBps": hexed(b"".join(bps.to_bytes(32, "big") for bps in lineage)),
                    "protocolBps": protocol,
                    "toNode": hex(shares.node),
                    "royalties": hexed(b"".join(part.to_bytes(32, "big") for part in shares.royalties)),
                    "protocolFee": hex(shares.protocol),
                }
            )
    return rows


def part_rows() -> list[dict[str, Any]]:
    """What a part of the work earns, split along a lineage as in `royalty_rows`, and the rest of the fee."""
    rows = []
    for fee in (0, 1, 9_999, 10_001, 20_000_000_000_000_000, 123_456_789_123_456_789, MAX_FEE):
        for done, lineage, protocol in (
            (0, (500,), 250),
            (1, (), 300),
            (2_500, (500, 300), 300),
            (3_333, (333, 0, 667), 2_000),
            (5_001, (1250, 1250, 1250, 1250), 2_000),
            (9_999, (1, 9_998), 1),
            (10_000, (500,), 250),
        ):
            part = part_of(fee, done)
            shares = split_along(part.due, lineage, protocol)
            rows.append(
                {
                    "fee": hex(fee),
                    "doneBps": done,
                    "royaltyBps": hexed(b"".join(bps.to_bytes(32, "big") for bps in lineage)),
                    "protocolBps": protocol,
                    "rest": hex(part.rest),
                    "toNode": hex(shares.node),
                    "royalties": hexed(b"".join(share.to_bytes(32, "big") for share in shares.royalties)),
                    "protocolFee": hex(shares.protocol),
                }
            )
    return rows


def merkle_rows() -> list[dict[str, Any]]:
    """One proof each from trees of many sizes; first, middle and last leaf; `leaves` is the whole tree."""
    rows = []
    for size in (1, 2, 3, 4, 5, 7, 8, 9, 16, 33):
        leaves = [made_up(f"leaf-{size}", index) for index in range(size)]
        for index in sorted({0, size // 2, size - 1}):
            rows.append(
                {
                    "leafCount": size,
                    "leaves": hexed(b"".join(leaves)),
                    "root": hexed(merkle.root(leaves).value),
                    "index": index,
                    "leaf": hexed(leaves[index]),
                    "depth": merkle.depth(size),
                    "proof": hexed(b"".join(merkle.proof(leaves, index))),
                }
            )
    return rows


def trace_rows() -> list[dict[str, Any]]:
    """Every leaf of two small traces (the second with guidance), with salts and roots."""
    rows = []
    for case, layout in enumerate((Layout(images=1, steps=2), Layout(images=2, steps=1, guided=True))):
        run = Binding(31337, address("board"), TaskId(made_up("task", case)), address("node"), made_up("secret", case))
        digests = {slot: made_up(f"digest-{case}", position) for position, slot in enumerate(layout.slots())}
        leaves = trace_leaves(run, layout, digests)
        for position, slot in enumerate(layout.slots()):
            rows.append(
                {
                    "chainId": hex(run.chain_id),
                    "board": str(run.board),
                    "taskId": hexed(run.task.value),
                    "node": str(run.node),
                    "kind": slot.kind.value,
                    "tag": hexed(slot.kind.tag),
                    "index": hex(slot.index),
                    "position": position,
                    "secret": hexed(run.secret),
                    "salt": hexed(run.salt(slot)),
                    "digest": hexed(digests[slot]),
                    "leaf": hexed(leaves[position]),
                    "traceRoot": hexed(trace_root(leaves).value),
                }
            )
    return rows


def tensor_rows() -> list[dict[str, Any]]:
    """Digests of small tensors; `shape` is joined with 'x'."""
    rows = []
    for shape, kind in (((1,), TensorType.FP32), ((1, 4, 2, 2), TensorType.FP32), ((2, 2, 3), TensorType.UINT8)):
        count = 4 if kind is TensorType.FP32 else 1
        for side in shape:
            count *= side
        data = bytes(index * 37 % 256 for index in range(count))
        rows.append(
            {
                "type": int(kind),
                "shape": "x".join(map(str, shape)),
                "data": hexed(data),
                "digest": hexed(tensor_digest(data, shape, kind)),
            }
        )
    return rows


def audit_rows() -> list[dict[str, Any]]:
    """All that follows from a beacon's seed, and what auditors and jurors seal. `checks` is "image/step" by blanks;
    `outputs` are two fp32 tensors of six values each, joined."""
    rules = AuditRules(jury_step_s=60)  # shorter than the window, so that its doublings are seen
    rows = []
    for index in range(24):
        seed, task = made_up("beacon", index), TaskId(made_up("task", index))
        roots = Root(made_up("result", index)), Root(made_up("trace", index))
        value = audit.challenge(seed, task, *roots)
        mode, passed = AuditMode((0, 0, 0, 1, 0, 2)[index % 6]), (0, 99, 100, 999, 1000, 2**32 - 1)[index % 6]
        fee = (1, int(rules.large_fee) - 1, int(rules.large_fee), 0)[index % 4]
        wallet, weight, total = address("auditor", index), (1, 3, 10, 40)[index % 4], (1, 7, 100, 2**32)[index // 6]
        weight, level = min(weight, total), index % 2
        images, steps = ((1, 1), (1, 8), (1, 30), (4, 20), (16, 200), (2, 4))[index % 6]
        k = audit.checks_of(images, steps, large=index % 5 == 0)
        entropy, salt, vote = (
            audit.jury_entropy(seed, task, level),
            made_up("salt", index),
            (1, 2, 3, 6, 10, 15)[index % 6],
        )
        words = projection_of(value, index)
        profile = ("fp32/cpu-x86_64", "fp16/nvidia-hopper", "bf16/amd-rdna3")[index % 3]
        rows.append(
            {
                "seed": hexed(seed),
                "taskId": hexed(task.value),
                "resultRoot": hexed(roots[0].value),
                "traceRoot": hexed(roots[1].value),
                "challenge": hexed(value),
                "mode": int(mode),
                "fee": hex(fee),
                "largeFee": hex(rules.large_fee),
                "passed": hex(passed),
                "rateBps": audit.rate_bps(passed, rules),
                "picked": audit.picked(value, mode, fee, passed, rules),
                "images": images,
                "steps": steps,
                "k": k,
                "checks": " ".join(f"{image}/{step}" for image, step in audit.steps_to_check(value, images, steps, k)),
                "wallet": str(wallet),
                "weight": weight,
                "totalWeight": hex(total),
                "auditorSeats": rules.auditor_seats,
                "auditStep": rules.audit_step_s,
                "auditorFrom": audit.seat_at(
                    value, task, wallet, weight, total, rules.auditor_seats, rules.audit_step_s
                ),
                "byLot": audit.by_lot(value, task, wallet, weight, total, rules),
                "level": level,
                "juryEntropy": hexed(entropy),
                "jurySeats": rules.seats(level),
                "juryStep": rules.jury_step_s,
                "jurorFrom": audit.seat_at(entropy, task, wallet, weight, total, rules.seats(level), rules.jury_step_s),
                "outputs": hexed(b"".join(made_up_outputs(index))),
                "projection": hexed(words),
                "salt": hexed(salt),
                "auditCommitment": hexed(audit.audit_commitment(value, task, wallet, words, salt)),
                "vote": vote,
                "voteCommitment": hexed(audit.vote_commitment(task, level, wallet, vote, salt)),
                "profile": profile,
                "profileId": hexed(audit.profile_id(profile)),
            }
        )
    return rows


def made_up_outputs(index: int) -> list[bytes]:
    """Two small fp32 tensors whose values are exact in every language."""
    numbers = [int.from_bytes(made_up(f"output-{part}", index, 12)[at : at + 2], "big") - 2**15
               for part in range(2) for at in range(0, 12, 2)]  # fmt: skip
    return [struct.pack("<6f", *(number / 1024 for number in numbers[part : part + 6])) for part in (0, 6)]


def projection_of(challenge: bytes, index: int) -> bytes:
    outputs = [tensor(data, (1, 6)) for data in made_up_outputs(index)]
    return pack(project(challenge, outputs))


def documents() -> list[Document]:
    """One of each document that is hashed or signed somewhere."""
    spec = TextToImage(
        prompt='a red circle, "bold" — naïve ☂ 🎨\n\ttwo lines', model="gesso-tiny@1", width=64, height=64,
        guidance=7.125, scheduler="dpmpp_2m", seed=2**53 - 1, count=2, dtype="fp16",
        model_manifest=BlobRef(made_up("manifest")),
    )  # fmt: skip
    plain = TextToImage(prompt="", model="gesso-tiny")
    model = ModelManifest(
        name="gesso-tiny",
        version=1,
        kind="base",
        base_family="gesso-tiny",
        licence="MIT",
        files=(
            FileEntry(path="model_index.json", size=12, blob=BlobRef(made_up("file", 0))),
            FileEntry(path="unet/diffusion_pytorch_model.safetensors", size=34, blob=BlobRef(made_up("file", 1))),
        ),
    )
    terms = Terms(requester=address("requester"), fee=Wei(2 * 10**16), spec=spec_ref(spec), model=ListingId(1),
                  claim_window_s=60, commit_window_s=300, nonce=2**64 - 1)  # fmt: skip
    board = address("board")
    result = ResultManifest(
        task=task_id(31337, board, terms),
        node=address("node"),
        executor="fake",
        spec=spec_ref(spec),
        model_manifest=model.ref,
        images=tuple(
            ImageEntry(index=index, blob=BlobRef(made_up("image", index)), sha256=made_up("sha", index).hex(),
                       width=64, height=64, seed=spec.image_seed(index))
            for index in range(2)
        ),
        profile={"device": "cpu", "torch": "2.13.0"},
        trace_root=Root(made_up("trace")),
    )  # fmt: skip
    announcement = TaskAnnouncement.of(31337, board, terms, reply_to=("/ip4/127.0.0.1/tcp/4001",))
    chunks = BlobManifest.of(bytes(CHUNK_BYTES) + b"gesso")
    return [spec, plain, terms, model, result, announcement, Offer(), chunks]


def document_rows() -> list[dict[str, Any]]:
    """Canonical bytes, their BLAKE3 (a blob's name) and their Keccak-256; for results also the result root."""
    rows = []
    for document in documents():
        data = document.encode()
        root = result_root(document).value if isinstance(document, ResultManifest) else bytes(32)
        rows.append(
            {
                "type": type(document).__name__,
                "bytes": hexed(data),
                "blake3": hexed(BlobRef.of(data).value),
                "keccak256": hexed(keccak256(data)),
                "resultRoot": hexed(root),
            }
        )
    return rows


def handover_rows() -> list[dict[str, Any]]:
    rows = []
    for index in range(4):
        chain_id, board, task = 1 + 31336 * index, address("board", index), TaskId(made_up("task", index))
        manifest, roots = BlobRef(made_up("manifest", index)), [Root(made_up("root", 2 * index + i)) for i in (0, 1)]
        rows.append(
            {
                "chainId": chain_id,
                "board": str(board),
                "task": hexed(task.value),
                "manifest": hexed(manifest.value),
                "resultRoot": hexed(roots[0].value),
                "traceRoot": hexed(roots[1].value),
                "digest": hexed(handover_digest(chain_id, board, task, manifest, roots[0], roots[1])),
            }
        )
    return rows


FILES = {
    "terms": terms_rows,
    "sortition": sortition_rows,
    "fees": fee_rows,
    "royalties": royalty_rows,
    "parts": part_rows,
    "merkle": merkle_rows,
    "trace": trace_rows,
    "audit": audit_rows,
    "tensors": tensor_rows,
    "documents": document_rows,
    "handovers": handover_rows,
    "checkpoints": checkpoint_rows,
    "training": training_rows,
    "shares": share_rows,
    "prices": price_rows,
}


def main(arguments: list[str]) -> int:
    """Write the files, or with --check compare them. Exit code 0: up to date or written, 1: stale, 2: usage."""
    if arguments not in ([], ["--check"]):
        print("usage: scripts/vectors [--check]", file=sys.stderr)
        return 2
    stale = []
    for name, rows in FILES.items():
        path = FOLDER / f"{name}.json"
        text = json.dumps(columns(rows()), indent=1) + "\n"
        if path.exists() and path.read_text() == text:
            continue
        stale.append(path.name)
        if not arguments:
            path.write_text(text)
    if arguments and stale:
        print(f"out of date: {', '.join(stale)}; run scripts/vectors", file=sys.stderr)
        return 1
    print(f"{len(FILES)} files, {len(stale)} written" if stale else f"{len(FILES)} files up to date", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
