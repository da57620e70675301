"""The golden vectors are what the rules say today, and their answers follow from their own inputs."""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blake3 import blake3

from gesso_protocol import merkle, sortition
from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import Address, BlobRef, ListingId, Root, TaskId
from gesso_protocol.manifest import BlobManifest, ModelManifest
from gesso_protocol.messages import TaskAnnouncement
from gesso_protocol.money import Wei, part_of, split_along, split_fee
from gesso_protocol.policy import Offer
from gesso_protocol.result import ResultManifest, result_root
from gesso_protocol.spec import TextToImage, TrainLora
from gesso_protocol.terms import Terms, task_id

FOLDER = Path(__file__).parents[2] / "vectors"


def rows(name: str) -> list[dict[str, Any]]:
    columns = json.loads((FOLDER / f"{name}.json").read_text())
    lengths = {len(column) for column in columns.values()}
    assert len(lengths) == 1
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def number(value: int | str) -> int:
    return int(value, 16) if isinstance(value, str) else value


def raw(value: str) -> bytes:
    return bytes.fromhex(value.removeprefix("0x"))


def words(value: str) -> list[bytes]:
    data = raw(value)
    return [data[at : at + 32] for at in range(0, len(data), 32)]


def test_the_files_are_up_to_date() -> None:
    command = [sys.executable, str(FOLDER / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_prices_of_trainings() -> None:
    for row in rows("prices"):
        spec = TrainLora.decode(raw(row["spec"]))
        kept = -(-spec.checkpoints * row["stateBytes"] // 500)
        assert (spec.pixel_steps, kept) == (row["pixelSteps"], row["checkpointPixelSteps"])
        assert row["diskBytes"] == (spec.checkpoints + 4) * row["stateBytes"]
        most = 12_345_678 if spec.resume else min(8 * 1024**3, 6 * max(row["baseBytes"], 32 * 1024**2))
        assert row["stateBytes"] <= most
        paid = -(-(spec.pixel_steps + kept) * number(row["perMegapixelStep"]) // 10**6)
        assert number(row["price"]) == number(row["base"]) + paid


def test_a_stale_file_is_noticed(tmp_path: Path) -> None:
    for path in (*FOLDER.glob("*.py"), *FOLDER.glob("*.json")):
        (tmp_path / path.name).write_text(path.read_text())
    fees = tmp_path / "fees.json"
    fees.write_text(fees.read_text().replace("250", "251", 1))
    command = [sys.executable, str(tmp_path / "generate.py")]
    stale = subprocess.run([*command, "--check"], capture_output=True, text=True, check=False, timeout=60)
    assert (stale.returncode, "fees.json" in stale.stderr) == (1, True)
    subprocess.run(command, capture_output=True, check=True, timeout=60)
    assert fees.read_text() == (FOLDER / "fees.json").read_text()


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_columns_are_flat_and_safe_for_any_json_reader(path: Path) -> None:
    for column in json.loads(path.read_text()).values():
        assert len({type(value) for value in column}) == 1
        assert all(isinstance(value, bool | str) or abs(value) < 2**53 for value in column)


def test_terms() -> None:
    for row in rows("terms"):
        terms = Terms(
            requester=Address(row["requester"]),
            fee=Wei(number(row["fee"])),
            spec=BlobRef(raw(row["spec"])),
            model=ListingId(number(row["model"])),
            kind=row["kind"],
            claim_window_s=row["claimWindow"],
            commit_window_s=row["commitWindow"],
            nonce=number(row["nonce"]),
            audit=row["audit"],
        )
        assert task_id(number(row["chainId"]), Address(row["board"]), terms).value == raw(row["taskId"])


def test_sortition() -> None:
    found = rows("sortition")
    for row in found:
        score = number(row["score"])
        seed = sortition.seed_bytes(number(row["seed"]))
        network = (number(row["totalWeight"]), row["weight"])
        assert sortition.score(seed, TaskId(raw(row["taskId"])), Address(row["node"])) == score
        assert sortition.threshold(*network, row["elapsed"], row["step"]) == number(row["threshold"])
        assert (score <= number(row["threshold"])) == row["mayClaim"] == (row["elapsed"] >= row["mayClaimAt"])
    assert {row["mayClaim"] for row in found} == {True, False}
    assert any(number(row["threshold"]) == 2**256 - 1 for row in found)


def test_fees() -> None:
    for row in rows("fees"):
        split = split_fee(number(row["fee"]), row["royaltyBps"], row["protocolBps"])
        parts = tuple(number(row[name]) for name in ("toNode", "royalty", "protocolFee"))
        assert parts == (split.node, split.royalty, split.protocol)


def test_royalties() -> None:
    for row in rows("royalties"):
        lineage = [int.from_bytes(word, "big") for word in words(row["royaltyBps"])]
        shares = split_along(number(row["fee"]), lineage, row["protocolBps"])
        assert shares.node == number(row["toNode"])
        assert list(shares.royalties) == [int.from_bytes(word, "big") for word in words(row["royalties"])]
        assert shares.protocol == number(row["protocolFee"])


def test_parts() -> None:
    found = rows("parts")
    for row in found:
        fee, part = number(row["fee"]), part_of(number(row["fee"]), row["doneBps"])
        shares = split_along(
            part.due, [int.from_bytes(word, "big") for word in words(row["royaltyBps"])], row["protocolBps"]
        )
        assert part.rest == number(row["rest"])
        assert (shares.node, shares.protocol) == (number(row["toNode"]), number(row["protocolFee"]))
        assert list(shares.royalties) == [int.from_bytes(word, "big") for word in words(row["royalties"])]
        assert shares.node + shares.royalty + shares.protocol + part.rest == fee
    assert {0, 10_000} < {row["doneBps"] for row in found}


def test_merkle() -> None:
    for row in rows("merkle"):
        root, proof = Root(raw(row["root"])), words(row["proof"])
        assert len(proof) == row["depth"] == merkle.depth(row["leafCount"])
        assert words(row["leaves"])[row["index"]] == raw(row["leaf"])
        assert merkle.root(words(row["leaves"])) == root
        assert merkle.verify(root, raw(row["leaf"]), row["index"], proof)


def test_trace_leaves_by_hand() -> None:
    for row in rows("trace"):
        assert raw(row["tag"]) == keccak256(f"gesso/trace/1/{row['kind']}".encode())
        index = number(row["index"]).to_bytes(32, "big")
        assert raw(row["salt"]) == keccak256(b"gesso/trace/1/salt" + raw(row["secret"]) + raw(row["tag"]) + index)
        place = number(row["chainId"]).to_bytes(32, "big") + bytes(12) + raw(row["board"]) + raw(row["taskId"])
        place += bytes(12) + raw(row["node"]) + index
        assert raw(row["leaf"]) == keccak256(raw(row["tag"]) + place + raw(row["digest"]) + raw(row["salt"]))


def test_handovers_by_hand() -> None:
    for row in rows("handovers"):
        domain = keccak256(
            keccak256(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
            + keccak256(b"gesso")
            + keccak256(b"1")
            + row["chainId"].to_bytes(32, "big")
            + raw(row["board"]).rjust(32, b"\0")
        )
        kind = keccak256(b"Handover(bytes32 task,bytes32 manifest,bytes32 resultRoot,bytes32 traceRoot)")
        said = keccak256(kind + b"".join(raw(row[name]) for name in ("task", "manifest", "resultRoot", "traceRoot")))
        assert keccak256(b"\x19\x01" + domain + said) == raw(row["digest"])


def test_checkpoints_by_hand() -> None:
    for row in rows("checkpoints"):
        seed = keccak256(
            b"gesso/train/1/seed" + raw(row["beacon"]) + raw(row["task"]) + row["specSeed"].to_bytes(32, "big")
        )
        assert seed == raw(row["runSeed"])
        domain = keccak256(
            keccak256(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
            + keccak256(b"gesso")
            + keccak256(b"1")
            + row["chainId"].to_bytes(32, "big")
            + raw(row["board"]).rjust(32, b"\0")
        )
        kind = keccak256(b"Checkpoint(bytes32 task,bytes32 state,uint256 step,uint256 size,bytes32 seed)")
        numbers = row["step"].to_bytes(32, "big") + row["size"].to_bytes(32, "big")
        said = keccak256(kind + raw(row["task"]) + raw(row["state"]) + numbers + raw(row["runSeed"]))
        assert keccak256(b"\x19\x01" + domain + said) == raw(row["digest"])
        rest = json.loads(raw(row["rest"]))
        wanted = {"seed": row["runSeed"][2:], "size": row["size"], "step": row["step"]}
        assert {name: rest["resume"][name] for name in wanted} == wanted
        whole = json.dumps({**rest, "resume": None}, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        assert blake3(whole).digest() == raw(row["whole"])
        starts = list(range(row["step"], rest["steps"], rest["checkpoint_every"]))
        ends = [(one, min(one + rest["checkpoint_every"], rest["steps"])) for one in starts]
        assert raw(row["segments"]) == b"".join(value.to_bytes(32, "big") for pair in ends for value in pair)


def test_shares_by_hand() -> None:
    seen = set()
    for row in rows("shares"):
        spec = json.loads(raw(row["spec"]))
        first, steps, done = (spec["resume"] or {"step": 0})["step"], spec["steps"], row["done"]
        pictures = spec["batch"] * spec["accumulation"] * (2 if spec["prior_milli"] else 1)

        def passes(until: int, first: int = first, spec: Any = spec, pictures: int = pictures) -> int:
            every = spec["sample_every"]
            drawn = 1 + len(
                [at for at in range(first + 1, until + 1) if every and at % every == 0 and at < spec["steps"]]
            )
            return 3 * (until - first) * pictures + 2 * drawn * len(spec["sample_prompts"]) * spec["sample_steps"]

        assert row["ordered"] == passes(steps)
        assert row["passes"] == (passes(done) if done > first else 0)
        assert row["share"] == row["passes"] * 10_000 // row["ordered"]
        seen.add((row["share"] in (0, 10_000), first > 0))
    assert len(seen) == 4


def test_documents() -> None:
    kinds = (TextToImage, Terms, ModelManifest, ResultManifest, TaskAnnouncement, Offer, BlobManifest)
    readers = {kind.__name__: kind for kind in kinds}
    found = rows("documents")
    assert {row["type"] for row in found} == set(readers)
    for row in found:
        document = readers[row["type"]].decode(raw(row["bytes"]))
        assert BlobRef.of(document.encode()).value == raw(row["blake3"])
        assert keccak256(document.encode()) == raw(row["keccak256"])
        if isinstance(document, ResultManifest):
            assert result_root(document).value == raw(row["resultRoot"])


def test_audits_of_trainings_by_hand() -> None:
    for row in rows("training"):
        drawn, count = raw(row["challenge"]), row["segments"]
        ranked = sorted(range(count), key=lambda number: sha256(drawn + struct.pack(">I", number)).digest())
        apart = [other for other in ranked[1:] if (other - ranked[0]) % count not in (1, count - 1)]
        chosen = sorted([ranked[0], *apart[:1]])
        assert raw(row["drawn"]) == b"".join(number.to_bytes(32, "big") for number in chosen)

        data = raw(row["openings"])
        assert data.startswith(b"gesso/training-openings/1")
        at = 25 + 4 + struct.unpack(">I", data[25:29])[0]
        assert json.loads(data[29:at]) == {
            "format": "gesso/training-openings/1", "leaves": 2 + len(chosen), "segments": count
        }  # fmt: skip
        tree = [data[at + 32 * leaf : at + 32 * leaf + 32] for leaf in range(4 + 2 * count)]
        assert merkle.root(tree).value == raw(row["traceRoot"])
        places = [struct.unpack(">IBQ", data[start : start + 13])
                  for start in range(at + 32 * len(tree), len(data) - 2, 109)]  # fmt: skip
        assert places == [(0, 0, 2), (1, 2, 0), *((2 * number + 2, 1, 1000) for number in chosen)]

        update = np.frombuffer(raw(row["update"]), "<f4").astype(np.float64)
        signs = hashlib.shake_256(b"gesso/audit/1/projection" + drawn).digest(16 * 16)
        bits = np.unpackbits(np.frombuffer(signs, np.uint8), bitorder="little").reshape(16, 128)
        sums = 4096 * ((1 - 2 * bits.astype(np.float64)) @ (update / np.linalg.norm(update)))
        assert np.abs(np.frombuffer(raw(row["sealed"]), ">i2") - sums).max() <= 0.5 + 1e-9
