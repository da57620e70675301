"""A relay over a fake chain: what it answers, what it streams, and what it does when the chain changes its mind."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from gesso.settings import Network
from gesso_protocol import events
from gesso_protocol.ids import BlobRef, Root
from gesso_protocol.messages import MAX_PROGRESS_BYTES, Preview, ProgressEvent
from gesso_protocol.result import ImageEntry, ResultManifest, result_root
from gesso_relay import Limits

from .fakechain import (
    ALICE,
    AUDITORS,
    BOARD,
    EVIDENCE,
    JURORS,
    NODE,
    FakeChain,
    cancelled,
    claimed,
    committed,
    expired,
    guilty,
    passed,
    published,
    registered,
    settled,
    settled_part,
    stopped,
    submitted,
    task_of,
    yanked,
)
from .running import GENEROUS, running, stream

pytestmark = pytest.mark.anyio


async def test_a_life_of_a_task_as_json(tmp_path: Path) -> None:
    chain = FakeChain()
    for found in (submitted(1), claimed(1), committed(1), settled(1)):
        chain.mine([found])
    async with running(tmp_path, chain) as relay:
        await relay.indexed()
        task = await relay.json(f"/v1/tasks/{task_of(1)}")
        assert (task["state"], task["node"], task["fee"], task["paid"]) == (
            "settled",
            NODE,
            str(2 * 10**16),
            str(19 * 10**15),
        )
        assert task["terms"]["requester"] == ALICE
        assert list(task["transactions"]) == ["submitted", "claimed", "committed", "settled"]
        listed = await relay.json(f"/v1/tasks?state=settled&requester={ALICE}&node={NODE}&model=1")
        assert listed == {
            "tasks": [{name: task[name] for name in task if name not in ("result", "checkpoint", "audit")}],
            "next": None,
        }
        assert (await relay.json("/v1/tasks?state=claimed"))["tasks"] == []


async def test_other_endings(tmp_path: Path) -> None:
    chain = FakeChain()
    chain.mine([submitted(1), submitted(2), cancelled(1), expired(2)])
    async with running(tmp_path, chain) as relay:
        await relay.indexed()
        first, second = [await relay.json(f"/v1/tasks/{task_of(nonce)}") for nonce in (1, 2)]
    assert (first["state"], first["refund"]) == ("cancelled", str(2 * 10**16))
    assert (second["state"], second["node"]) == ("expired", None)


async def test_a_dispute_from_the_pick_to_the_slash_as_json(tmp_path: Path) -> None:
    chain = FakeChain()
    chain.mine([registered(), submitted(1), claimed(1), committed(1), *guilty(1)])
    async with running(tmp_path, chain) as relay:
        await relay.indexed()
        task = await relay.json(f"/v1/tasks/{task_of(1)}")
        audit, node = task["audit"], await relay.json(f"/v1/nodes/{NODE}")
        listed = await relay.json(f"/v1/audits?state=guilty&node={NODE}")
        assert listed == {"audits": [audit], "next": None}
        assert (await relay.json("/v1/audits?state=passed"))["audits"] == []
        await relay.json(f"/v1/nodes/{ALICE}", 404)
    assert (task["state"], task["upheld"], task["release_at"]) == ("expired", False, 1_700_000_500)
    assert (audit["state"], audit["slashed"], audit["burned"]) == ("guilty", str(10**18), str(5 * 10**17))
    assert [(seat["account"], seat["said"], seat["evidence"]) for seat in audit["auditors"]] == [
        (AUDITORS[0], "flag", str(EVIDENCE)),
        (AUDITORS[1], "pass", str(EVIDENCE)),
    ]
    assert [(seat["account"], seat["said"], seat["lost"]) for seat in audit["jurors"]] == [
        (JURORS[0], "bad", "0"),
        (JURORS[1], "bad", "0"),
        (JURORS[2], None, str(10**17)),
    ]
    assert (node["stake"], node["slashed"], node["slashes"]) == ("0", str(10**18), 1)
    assert node["audited"] == {"guilty": 1}


async def test_a_fork_takes_an_audit_back_and_another_comes(tmp_path: Path) -> None:
    chain = FakeChain()
    chain.mine([registered(JURORS[0]), submitted(1), claimed(1), committed(1)])
    chain.mine(guilty(1))
    async with running(tmp_path, chain) as relay:
        await relay.indexed()
        seen = await relay.json(f"/v1/nodes/{JURORS[0]}")
        assert (seen["seats"], seen["latest_seats"][0]["said"]) == ({"juror": 1}, "bad")
        chain.fork(1)
        chain.mine(passed(1))
        await relay.indexed()
        assert (await relay.json(f"/v1/tasks/{task_of(1)}"))["state"] == "committed"
        chain.mine([settled(1)])
        await relay.indexed()
        task = await relay.json(f"/v1/tasks/{task_of(1)}")
        assert (task["state"], task["audit"]["state"], task["audit"]["jurors"]) == ("settled", "passed", [])
        assert (await relay.json(f"/v1/nodes/{JURORS[0]}"))["seats"] == {}


async def test_a_stream_tells_the_audit_too_and_ends_with_its_last_word(tmp_path: Path) -> None:
    chain = FakeChain()
    chain.mine([submitted(1), claimed(1), committed(1)])
    chain.mine(guilty(1))
    async with running(tmp_path, chain) as relay:
        await relay.indexed()
        with anyio.fail_after(10):
            async with stream(relay.client, f"/v1/tasks/{task_of(1)}/events") as sent:
                seen = [event async for event in sent]
    told = [event for event in seen if event.name not in ("held", "ruled", "challenged")]
    parsed = [events.parse_event(json.dumps(event.data).encode()) for event in told]
    assert [event.kind for event in parsed][-3:] == ["expired", "juror-penalised", "dispute-executed"]
    verdicts = [event for event in parsed if isinstance(event, events.AuditRevealed)]
    assert [event.verdict.name for event in verdicts] == ["FLAG", "PASS"]
    assert verdicts[0].projection[:2] == (-2, -2)
    assert [event.vote for event in parsed if isinstance(event, events.VoteRevealed)] == [2, 6]


async def test_pages_of_tasks(tmp_path: Path) -> None:
    chain = FakeChain()
    for block in range(5):
        chain.mine([submitted(block * 5 + index) for index in range(5)])
    async with running(tmp_path, chain) as relay:
        await relay.indexed()
        path, seen = "/v1/tasks?limit=7", []
        while path:
            page = await relay.json(path)
            seen += [task["id"] for task in page["tasks"]]
            path = page["next"] and f"/v1/tasks?limit=7&before={page['next']}"
    assert seen == [str(task_of(nonce)) for nonce in reversed(range(25))]


async def test_nodes_models_and_network(tmp_path: Path) -> None:
    chain = FakeChain()
    chain.mine([registered(), published(1, "gesso-tiny", 1), published(2, "gesso-tiny", 2), yanked(2)])
    async with running(tmp_path, chain) as relay:
        await relay.indexed()
        (node,) = (await relay.json("/v1/nodes?state=active"))["nodes"]
        assert (node["address"], node["online"], node["settled_tasks"]) == (NODE, False, 0)
        (model,) = (await relay.json("/v1/models"))["models"]
        assert (model["name"], model["version"], model["kind"]) == ("gesso-tiny", 1, "base")
        assert len((await relay.json("/v1/models?yanked=true"))["models"]) == 2
        shown = await relay.json("/v1/models/gesso-tiny")
        assert {name: shown[name] for name in model} == model
        assert (shown["lineage"], shown["children"], shown["card"]) == ([model], [], None)
        assert (await relay.json("/v1/models/1")) == shown
        assert (await relay.json("/v1/models/gesso-tiny@2"))["yanked"] is True
        document = await relay.json("/v1/network")
        network = Network.model_validate(document["network"])
        assert (network.contracts.task_board, network.relay_url) == (BOARD, relay.relay.url)
        assert document["params"]["protocol_fee_bps"] == 200
        health = await relay.json("/v1/health")
        assert (health["status"], health["gossip"]) == ("ok", None)


async def test_the_rpc_address_is_told_only_when_it_is_local_or_meant_to_be(tmp_path: Path) -> None:
    from .fakechain import SETTINGS

    secret = SETTINGS.model_copy(update={"rpc_url": "https://rpc.example/v3/SECRETKEY"})
    async with running(tmp_path) as relay:
        relay.relay.settings = relay.relay.settings.model_copy(update={"chain": secret})
        assert "SECRET" not in (await relay.client.get("/v1/network")).text
        relay.relay.settings = relay.relay.settings.model_copy(update={"rpc_hint": "https://public.example"})
        assert (await relay.json("/v1/network"))["network"]["rpc_url"] == "https://public.example"


async def test_a_part_shows_its_share_and_what_came_back(tmp_path: Path) -> None:
    chain = FakeChain()
    chain.mine([submitted(1), claimed(1)])
    chain.mine(stopped(1))
    async with running(tmp_path, chain) as relay:
        await relay.indexed()
        task = await relay.json(f"/v1/tasks/{task_of(1)}")
        assert (task["state"], task["done_bps"], task["stop_requested"]) == ("committed", 2500, True)
        chain.mine(settled_part(1))
        await relay.indexed()
        (task,) = (await relay.json("/v1/tasks?state=settled"))["tasks"]
        assert task["rest_returned"] == str(15 * 10**15)
        money = (int(task[name]) for name in ("paid", "royalty", "protocol_fee", "rest_returned"))
        assert sum(money) == int(task["fee"])
        with anyio.fail_after(10):
            async with stream(relay.client, f"/v1/tasks/{task_of(1)}/events") as sent:
                seen = [event async for event in sent]
        kinds = [events.parse_event(json.dumps(event.data).encode()).kind for event in seen]
        assert kinds == [
            "submitted", "claimed", "stop-requested", "part-committed", "committed", "rest-returned", "settled",
        ]  # fmt: skip
        page = (await relay.client.get(f"/tasks/{task_of(1)}")).text
        assert "25 %, stopped by its requester" in page
        assert "0.015" in page


async def test_events_are_replayed_then_live_then_end(tmp_path: Path) -> None:
    chain = FakeChain()
    chain.mine([submitted(1)])
    async with running(tmp_path, chain) as relay:
        await relay.indexed()
        with anyio.fail_after(10):
            async with stream(relay.client, f"/v1/tasks/{task_of(1)}/events") as sent:
                seen = [await anext(sent)]
                for found in (claimed(1), committed(1), settled(1)):
                    chain.mine([found])
                    seen.append(await anext(sent))
                assert [event async for event in sent] == []
            parsed = [events.parse_event(json.dumps(event.data).encode()) for event in seen]
            assert [event.kind for event in parsed] == ["submitted", "claimed", "committed", "settled"]
            async with stream(
                relay.client, f"/v1/tasks/{task_of(1)}/events", **{"Last-Event-ID": seen[1].id or ""}
            ) as sent:
                assert [event.name async for event in sent] == ["committed", "settled"]


async def test_a_stream_tells_of_a_fork_and_begins_anew(tmp_path: Path) -> None:
    chain = FakeChain()
    chain.mine([submitted(1)])
    chain.mine([claimed(1)])
    async with running(tmp_path, chain) as relay:
        await relay.indexed()
        with anyio.fail_after(10):
            async with stream(relay.client, f"/v1/tasks/{task_of(1)}/events") as sent:
                assert [(await anext(sent)).name for _ in range(2)] == ["submitted", "claimed"]
                chain.fork(1)
                chain.mine([])
                chain.mine([cancelled(1)])
                names = [event.name async for event in sent]
    assert names[0] == "rewound"
    assert names[-2:] == ["submitted", "cancelled"]
    assert "claimed" not in names


async def test_the_index_survives_a_chain_that_is_away(tmp_path: Path) -> None:
    chain = FakeChain()
    async with running(tmp_path, chain) as relay:
        await relay.indexed()
        chain.down = True
        with anyio.fail_after(10):
            while (await relay.json("/v1/health"))["status"] != "degraded":
                pass
        chain.down = False
        chain.mine([submitted(1)])
        await relay.indexed()
        assert (await relay.json(f"/v1/tasks/{task_of(1)}"))["state"] == "submitted"


async def test_a_relay_goes_on_where_it_stopped_and_can_be_rebuilt(tmp_path: Path) -> None:
    chain = FakeChain()
    chain.mine([submitted(1), registered()])
    async with running(tmp_path, chain) as relay:
        await relay.indexed()
    chain.fork(1)
    chain.mine([submitted(2)])
    async with running(tmp_path, chain) as relay:
        await relay.indexed()
        kept = await relay.json("/v1/tasks")
        assert [task["id"] for task in kept["tasks"]] == [str(task_of(2))]
        assert (await relay.json("/v1/nodes"))["nodes"] == []
    for file in (tmp_path / "relay").glob("index.sqlite3*"):
        file.unlink()
    async with running(tmp_path, chain) as relay:
        await relay.indexed()
        assert await relay.json("/v1/tasks") == kept


def progress(nonce: int, sequence: int, stage: str = "executing", **more: object) -> ProgressEvent:
    values = {
        "task": task_of(nonce),
        "node": NODE,
        "sequence": sequence,
        "stage": stage,
        "step": 1,
        "total": 25,
        **more,
    }
    return ProgressEvent.model_validate(values)


async def test_progress_reaches_who_listens_and_who_comes_late(tmp_path: Path) -> None:
    preview = Preview.of(b"\x89PNG\r\n\x1a\n" + bytes(11_000))
    path = f"/v1/progress/{task_of(1)}"
    async with running(tmp_path) as relay:
        with anyio.fail_after(10):
            async with stream(relay.client, path) as sent:
                reply = await relay.client.post(path, content=progress(1, 1, preview=preview).encode())
                assert reply.status_code == 202
                first = await anext(sent)
            assert first.data["preview"]["data"] == preview.data
            async with stream(relay.client, path) as sent:
                assert (await anext(sent)).data == first.data


async def test_progress_from_the_wrong_node_is_refused(tmp_path: Path) -> None:
    chain = FakeChain()
    chain.mine([submitted(1), claimed(1)])
    path = f"/v1/progress/{task_of(1)}"
    async with running(tmp_path, chain) as relay:
        await relay.indexed()
        other = await relay.client.post(path, content=progress(1, 1, node=ALICE).encode())
        mine = await relay.client.post(path, content=progress(1, 1).encode())
        elsewhere = await relay.client.post(path, content=progress(2, 1).encode())
    assert (other.status_code, mine.status_code, elsewhere.status_code) == (400, 202, 400)


def result_of(nonce: int) -> ResultManifest:
    picture = ImageEntry(index=0, blob=BlobRef.of(b"png"), sha256="0" * 64, width=64, height=64, seed=7)
    return ResultManifest(
        task=task_of(nonce),
        node=NODE,
        executor="fake",
        spec=BlobRef.of(b"spec"),
        model_manifest=BlobRef.of(b"model"),
        images=(picture,),
        trace_root=Root(b"\x02" * 32),
    )


async def test_a_result_is_told_only_when_it_is_the_one_on_chain(tmp_path: Path) -> None:
    manifest, forged = result_of(1), result_of(2)
    chain = FakeChain()
    chain.mine([submitted(1), claimed(1), committed(1, root=result_root(manifest))])
    async with running(tmp_path, chain) as relay:
        await relay.indexed()
        for made in (forged, manifest):
            await relay.client.put(f"/v1/blobs/{made.ref.hex()}", content=made.encode())
        path = f"/v1/progress/{task_of(1)}"
        for sequence, note in ((1, str(forged.ref)), (2, "no ref"), (3, str(BlobRef.of(b"not here")))):
            await relay.client.post(path, content=progress(1, sequence, "committed", note=note).encode())
        assert (await relay.json(f"/v1/tasks/{task_of(1)}"))["result"] is None
        await relay.client.post(path, content=progress(1, 4, "committed", note=str(manifest.ref)).encode())
        found = (await relay.json(f"/v1/tasks/{task_of(1)}"))["result"]
        assert (found["manifest"], found["executor"], len(found["images"])) == (str(manifest.ref), "fake", 1)
    async with running(tmp_path, chain) as relay:
        assert (await relay.json(f"/v1/tasks/{task_of(1)}"))["result"] == found


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


async def test_streams_have_seats_and_give_them_back(tmp_path: Path) -> None:
    limits = GENEROUS.model_copy(update={"max_streams_a_client": 1})
    path = f"/v1/progress/{task_of(1)}"
    async with running(tmp_path, limits=limits) as relay:
        async with relay.client.stream("GET", path):
            assert (await relay.client.get(path)).status_code == 429
            assert (await relay.json("/v1/health"))["streams"] == 1
        with anyio.fail_after(10):
            while (await relay.json("/v1/health"))["streams"]:
                pass
            async with relay.client.stream("GET", path) as reply:
                assert reply.status_code == 200


async def test_a_stream_ends_after_its_time(tmp_path: Path) -> None:
    limits = GENEROUS.model_copy(update={"stream_s": 0.3, "heartbeat_s": 0.05})
    async with running(tmp_path, limits=limits) as relay:
        with anyio.fail_after(10):
            body = (await relay.client.get(f"/v1/progress/{task_of(1)}")).text
    assert body.count(": still here") >= 2


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


async def test_numbers_for_prometheus(tmp_path: Path) -> None:
    chain = FakeChain()
    chain.mine([submitted(1)])
    async with running(tmp_path, chain) as relay:
        await relay.indexed()
        reply = await relay.client.get("/metrics")
        assert (reply.status_code, reply.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
        lines = reply.text.splitlines()
        assert f"gesso_relay_index_block {len(chain.blocks) - 1:.1f}" in lines
        assert "gesso_relay_peers 0.0" in lines
