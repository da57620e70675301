"""Vectors of drand's quicknet: published rounds, and points that a verifier must refuse.

The rounds were published by the beacon; each is checked here by pairing with py_ecc (which py-evm brings along) before
it is written, so a wrong digit cannot enter the file. Usage: python tests/vectors/drand.py [--check]
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from py_ecc.bls.hash_to_curve import hash_to_G1
from py_ecc.bls.point_compression import decompress_G2
from py_ecc.fields import optimized_bls12_381_FQ as FQ
from py_ecc.optimized_bls12_381.optimized_curve import G2, b, curve_order, is_inf, is_on_curve, multiply, neg, normalize
from py_ecc.optimized_bls12_381.optimized_pairing import pairing

from gesso_protocol import drand

FILE = Path(__file__).with_name("drand.json")
REFUSED = Path(__file__).with_name("drand_refused.json")
DST = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_"

# round: (signature, randomness where the source gave one), as served by https://api.drand.sh. Of those in print, 42
# stands in drand's own guide (docs.drand.love/dev-guide/developer/http-api), 123 in the documentation of drand-verify
# (docs.rs), 657413 in the readme of python-drand-verify (github.com/mcdcam/python-drand-verify).
ROUNDS = {
    1000: (
        "b44679b9a59af2ec876b1a6b1ad52ea9b1615fc3982b19576350f93447cb1125e342b73a8dd2bacbe47e4b6b63ed5e39",
        "fe290beca10872ef2fb164d2aa4442de4566183ec51c56ff3cd603d930e54fdd",
    ),
    657413: (
        "b713718a38ae728dfd477991af2822e08d2f305e47718cef9f7848ce4050e7be41076862b98fad56e91a6b85b89cd97b",
        "fc1873a13f3545aeade8401532ef5519920652eee6b0d2b19ca12643b87b3587",
    ),
    42: (
        "95a9f9f5b231b7714de1553105d8ffdf3dcda24cfdb1e689319bccf79a9c8ce430a91b811fbfaf763900bc998b5d686a",
        None,
    ),
    123: (
        "b75c69d0b72a5d906e854e808ba7e2accb1542ac355ae486d591aa9d43765482e26cd02df835d3546d23c4b13e0dfc92",
        "fb8f7bc29bf24db51871ec8c79f3a1e4bd0557bc0dfcee9ed1d924e69d1c60dc",
    ),
    12040883: (
        "929906c959032ab363c9f26570d215d66f5c06cb0c44fe508c12bb5839f04ec895bb6868e5b9ff13ab289bdb5266b394",
        None,
    ),
    32281667: (
        "b0f5ae301358ff87a9d3dd539ed4a07c0148b1ab4f7b61a8ca43c7e9ca7ca9553e4faae9188deb30b2cd1a7f447e3e5b",
        "4fd2fc55983dbfa3f446d8a0bd56f16cc8c5e76afd1ec154b60d477cbabed13b",
    ),
    32285085: (
        "81dbce51d584d90d618547f4b50391d53ace6f6b9aeb8fb67e1879427af9d0310ac0ec6f519271d9a313ee84b378d416",
        None,
    ),
    32285086: (
        "a64d99fd7fa3e48912be7209c7b69c72c88fc5224be2516949b6f29f3a4b7e3fa069dd58b2bbb4bf2c34ae61ef631a44",
        None,
    ),
}


def message(number: int) -> Any:
    return hash_to_G1(hashlib.sha256(number.to_bytes(8, "big")).digest(), DST, hashlib.sha256)  # type: ignore[arg-type]


def public_key() -> Any:
    halves = (int.from_bytes(drand.PUBLIC_KEY[:48], "big"), int.from_bytes(drand.PUBLIC_KEY[48:], "big"))
    return decompress_G2(halves)  # type: ignore[arg-type]


def point(data: bytes) -> Any:
    return FQ(int.from_bytes(data[:48], "big")), FQ(int.from_bytes(data[48:], "big")), FQ(1)


def joined(at: Any) -> str:
    return "0x" + b"".join(int(c).to_bytes(48, "big") for c in normalize(at)).hex()


def published() -> list[dict[str, Any]]:
    """Checked rounds: the number, the signature as published, its point and the randomness. Raises on a wrong one."""
    rows = []
    for number, (text, randomness) in ROUNDS.items():
        signature = bytes.fromhex(text)
        data = drand.uncompress(signature)
        at = point(data)
        if not is_on_curve(at, b) or pairing(G2, at) != pairing(public_key(), message(number)):
            raise ValueError(f"round {number} is not signed by quicknet")
        seed = hashlib.sha256(signature).hexdigest()
        if randomness not in (None, seed):
            raise ValueError(f"round {number} has another randomness")
        rows.append(
            {"round": hex(number), "signature": "0x" + text, "point": "0x" + data.hex(), "randomness": "0x" + seed}
        )
    return rows


def outside_subgroup() -> Any:
    """The curve's first point by x whose order is not the subgroup's."""
    x = 0
    while True:
        square = (x**3 + 4) % drand.FIELD
        y = pow(square, (drand.FIELD + 1) // 4, drand.FIELD)
        at = (FQ(x), FQ(y), FQ(1))
        if y * y % drand.FIELD == square and not is_inf(multiply(at, curve_order)):
            return at
        x += 1


def refused() -> list[dict[str, Any]]:
    """Points for round 1000 that are no signature of it; `why` names the first check that must catch them."""
    good = drand.uncompress(bytes.fromhex(ROUNDS[1000][0]))
    x, y = int.from_bytes(good[:48], "big"), int.from_bytes(good[48:], "big")

    def raw(a: int, b_: int) -> str:
        return "0x" + a.to_bytes(48, "big").hex() + b_.to_bytes(48, "big").hex()

    cases = {
        "negated": joined(neg(point(good))),
        "doubled": joined(multiply(point(good), 2)),
        "message": joined(message(1000)),
        "infinity": raw(0, 0),
        "subgroup": joined(outside_subgroup()),
        "curve": raw(x, y ^ 1),
        "swapped": raw(y, x),
        "x is the modulus": raw(drand.FIELD, y),
        "y is the modulus": raw(x, drand.FIELD),
        "x and the modulus": raw(x + drand.FIELD, y),
        "y and the modulus": raw(x, y + drand.FIELD),
        "all ones": "0x" + "ff" * 96,
    }
    known = {"negated": "pairing", "doubled": "pairing", "message": "pairing", "subgroup": "pairing"}
    known |= {"infinity": "infinity", "curve": "curve", "swapped": "curve"}
    return [{"case": name, "point": data, "why": known.get(name, "field")} for name, data in cases.items()]


def render(rows: list[dict[str, Any]]) -> str:
    return json.dumps({name: [row[name] for row in rows] for name in rows[0]}, indent=1) + "\n"


def main(arguments: list[str]) -> int:
    """Write the files, or with --check compare them. Exit code 0: up to date or written, 1: stale."""
    texts = {FILE: render(published()), REFUSED: render(refused())}
    stale = [path for path, text in texts.items() if not path.exists() or path.read_text() != text]
    if "--check" in arguments:
        for path in stale:
            print(f"out of date: {path.name}", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.write_text(texts[path])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
