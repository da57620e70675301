"""Hostile bodies, odd addresses, too many requests: each gets a typed answer. Pages carry nothing foreign."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gesso_protocol.messages import MAX_PROGRESS_BYTES
from gesso_relay import Limits

from .fakechain import (
    JURORS,
    NODE,
    FakeChain,
    claimed,
    committed,
    guilty,
    published,
    registered,
    settled,
    submitted,
    task_of,
)
from .running import running

pytestmark = pytest.mark.anyio


HOSTILE_BODIES = [
    (b"", "encoding-invalid"),
    (b"{}", "encoding-invalid"),
    (b"\xff\xfe", "encoding-invalid"),
    (b"[" * 10_000, "encoding-invalid"),
    (b"1" * 10_000, "encoding-invalid"),
    (b"x" * (MAX_PROGRESS_BYTES + 1), "message-too-large"),
]


async def test_hostile_bodies_get_a_typed_error(tmp_path: Path) -> None:
    async def unsized(body: bytes) -> AsyncIterator[bytes]:
        yield body

    async with running(tmp_path) as relay:
        for path in (f"/v1/progress/{task_of(1)}", "/v1/gossip"):
            for body, code in HOSTILE_BODIES:
                for content in (body, unsized(body)):
                    reply = await relay.client.post(path, content=content)
                    assert reply.status_code in (400, 413)
                    assert reply.json()["code"] == code


ODD_QUESTIONS = [
    ("/v1/tasks?stat=settled", 400),
    ("/v1/tasks?state=done", 400),
    ("/v1/tasks?state=settled&state=claimed", 400),
    ("/v1/tasks?limit=0", 400),
    ("/v1/tasks?limit=201", 400),
    ("/v1/tasks?limit=1e2", 400),
    ("/v1/tasks?before=-1", 400),
    ("/v1/tasks?before=" + "9" * 30, 400),
    ("/v1/tasks?before=%D9%A1", 400),
    ("/v1/tasks?requester=0x12", 400),
    ("/v1/tasks?requester=" + "0x" + "aA" * 20, 400),
    ("/v1/tasks?model=" + "9" * 19, 200),
    ("/v1/tasks/0x12", 400),
    ("/v1/tasks/0x" + "00" * 32, 404),
    ("/v1/tasks/..%2f..%2fetc", 400),
    ("/v1/models/..%2fetc", 400),
    ("/v1/models/" + "9" * 40, 400),
    ("/v1/models/none", 404),
    ("/v1/models/none@0", 400),
    ("/v1/models/a'b", 400),
    ("/v1/models?before=" + "9" * 19, 400),
    ("/v1/models?sort=use&before=1-" + "9" * 19, 400),
    ("/v1/models?sort=price&before=" + "9" * 18 + "-1", 400),
    ("/v1/models?text=%00", 400),
    ("/v1/models?text=%ED%A0%80", 200),
    ("/v1/nodes?state=settled", 400),
    ("/v1/health?x=1", 400),
    ("/v1/blobs/zz", 400),
    ("/v1/blobs/" + "zz" * 32, 400),
    ("/v1/blobs/" + "00" * 32, 404),
    ("/v1/blobs/" + "00" * 32 + "/chunks", 404),
    ("/v1/nothing", 404),
    ("/../../etc/passwd", 404),
    ("/tasks/0x" + "00" * 32, 404),
    ("/tasks?state=%3Cscript%3E", 400),
]


async def test_every_odd_question_gets_a_typed_answer(tmp_path: Path) -> None:
    async with running(tmp_path) as relay:
        for path, status in ODD_QUESTIONS:
            reply = await relay.client.get(path)
            assert reply.status_code == status, (path, reply.text)
            if status != 200:
                assert set(reply.json()) == {"code", "message", "hint"}, path


async def test_a_misspelt_parameter_is_told(tmp_path: Path) -> None:
    async with running(tmp_path) as relay:
        assert "did you mean 'state'?" in (await relay.json("/v1/tasks?stat=settled", 400))["message"]


async def test_methods_that_do_not_exist(tmp_path: Path) -> None:
    async with running(tmp_path) as relay:
        reply = await relay.client.delete("/v1/tasks")
        assert (reply.status_code, reply.json()["code"], reply.headers["allow"]) == (
            405,
            "method-not-allowed",
            "GET,HEAD",
        )


async def test_too_many_requests_from_one_address(tmp_path: Path) -> None:
    async with running(tmp_path, limits=Limits(requests_per_s=0.001, request_burst=3)) as relay:
        codes = [(await relay.client.get("/v1/health")).status_code for _ in range(5)]
        refused = await relay.client.get("/v1/health")
    assert codes == [200, 200, 200, 429, 429]
    assert (refused.json()["code"], refused.headers["retry-after"]) == ("rate-limited", "1")


async def test_without_gossip_an_announcement_is_refused_in_words(tmp_path: Path) -> None:
    from gesso.transport.keys import NodeKey
    from gesso.transport.signed import Signed
    from gesso_protocol.messages import TOPIC_TASKS

    async with running(tmp_path) as relay:
        said = Signed.by(NodeKey.create(), TOPIC_TASKS, b"something")
        reply = await relay.client.post("/v1/gossip", content=said.encode())
        heard = await relay.client.get("/v1/gossip", params={"topic": TOPIC_TASKS})
    for refused in (reply, heard):
        assert (refused.status_code, refused.json()["code"]) == (502, "unreachable")


PAGES = [
    "/", "/tasks", "/tasks?state=settled", "/nodes", "/models", f"/tasks/{task_of(1)}", "/audits",
    "/audits?state=guilty", f"/nodes/{NODE}", f"/nodes/{JURORS[0]}", f"/tasks/{task_of(7)}",
]  # fmt: skip


async def test_pages_are_drawn_and_carry_nothing_foreign(tmp_path: Path) -> None:
    chain = FakeChain()
    chain.mine([registered(), published(1, "<script>alert(1)</script>", 1)])
    for nonce in range(3):
        chain.mine([submitted(nonce), claimed(nonce), committed(nonce), settled(nonce)])
    chain.mine([registered(JURORS[0], peer_id=b"\x02"), submitted(7), *guilty(7)])
    async with running(tmp_path, chain) as relay:
        await relay.indexed()
        for path in PAGES:
            reply = await relay.client.get(path)
            assert reply.status_code == 200
            assert "default-src 'none'" in reply.headers["content-security-policy"]
            assert "<script" not in reply.text
            assert "http://" not in reply.text
            assert "https://" not in reply.text
