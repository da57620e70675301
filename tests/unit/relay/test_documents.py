"""What a relay answers about tasks, audits, nodes, models and itself, in JSON and in numbers."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest

from gesso.settings import Network
from gesso_protocol import events

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
    published,
    registered,
    settled,
    settled_part,
    stopped,
    submitted,
    task_of,
    yanked,
)
from .running import running, stream

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
        with anyio.fail_after(60):
            async with stream(relay.client, f"/v1/tasks/{task_of(1)}/events") as sent:
                seen = [event async for event in sent]
        kinds = [events.parse_event(json.dumps(event.data).encode()).kind for event in seen]
        assert kinds == [
            "submitted", "claimed", "stop-requested", "part-committed", "committed", "rest-returned", "settled",
        ]  # fmt: skip
        page = (await relay.client.get(f"/tasks/{task_of(1)}")).text
        assert "25 %, stopped by its requester" in page
        assert "0.015" in page


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
