"""Events of tasks, progress and results as they come: from the beginning, then live, and within bounds."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import httpx
import pytest

from gesso_protocol import events
from gesso_protocol.ids import BlobRef, Root
from gesso_protocol.messages import Preview, ProgressEvent
from gesso_protocol.result import ImageEntry, ResultManifest, result_root

from .fakechain import (
    ALICE,
    NODE,
    FakeChain,
    claimed,
    committed,
    guilty,
    settled,
    submitted,
    task_of,
)
from .running import GENEROUS, running, stream

pytestmark = pytest.mark.anyio


async def test_a_stream_tells_the_audit_too_and_ends_with_its_last_word(tmp_path: Path) -> None:
    chain = FakeChain()
    chain.mine([submitted(1), claimed(1), committed(1)])
    chain.mine(guilty(1))
    async with running(tmp_path, chain) as relay:
        await relay.indexed()
        with anyio.fail_after(60):
            async with stream(relay.client, f"/v1/tasks/{task_of(1)}/events") as sent:
                seen = [event async for event in sent]
    told = [event for event in seen if event.name not in ("held", "ruled", "challenged")]
    parsed = [events.parse_event(json.dumps(event.data).encode()) for event in told]
    assert [event.kind for event in parsed][-3:] == ["expired", "juror-penalised", "dispute-executed"]
    verdicts = [event for event in parsed if isinstance(event, events.AuditRevealed)]
    assert [event.verdict.name for event in verdicts] == ["FLAG", "PASS"]
    assert verdicts[0].projection[:2] == (-2, -2)
    assert [event.vote for event in parsed if isinstance(event, events.VoteRevealed)] == [2, 6]


async def test_events_are_replayed_then_live_then_end(tmp_path: Path) -> None:
    chain = FakeChain()
    chain.mine([submitted(1)])
    async with running(tmp_path, chain) as relay:
        await relay.indexed()
        with anyio.fail_after(60):
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
        with anyio.fail_after(60):
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


async def test_nobody_s_words_push_out_where_a_result_is(tmp_path: Path) -> None:
    manifest, chain = result_of(1), FakeChain()
    chain.mine([submitted(1), claimed(1), committed(1, root=result_root(manifest))])
    async with running(tmp_path, chain, trust_forwarded_for=True) as relay:
        await relay.indexed()

        async def say(who: str, sequence: int, ref: BlobRef) -> None:
            hint = progress(1, sequence, "committed", note=str(ref)).encode()
            path, headers = f"/v1/progress/{task_of(1)}", {"X-Forwarded-For": who}
            assert (await relay.client.post(path, content=hint, headers=headers)).status_code == 202

        await say("192.0.2.1", 1, manifest.ref)
        for number in range(20):
            await say(f"2001:db8:0:{number:x}::1", 2 + number, BlobRef.of(bytes([number])))
        await relay.client.put(f"/v1/blobs/{manifest.ref.hex()}", content=manifest.encode())
        found = (await relay.json(f"/v1/tasks/{task_of(1)}"))["result"]
        assert found["manifest"] == str(manifest.ref)


async def test_what_was_named_before_its_commit_is_proved_as_soon_as_the_root_is_known(tmp_path: Path) -> None:
    manifest, forged, chain = result_of(1), result_of(2), FakeChain()
    chain.mine([submitted(1), claimed(1)])
    async with running(tmp_path, chain) as relay:
        await relay.indexed()
        for made in (forged, manifest):
            await relay.client.put(f"/v1/blobs/{made.ref.hex()}", content=made.encode())
            hint = progress(1, 1, "committed", note=str(made.ref)).encode()
            assert (await relay.client.post(f"/v1/progress/{task_of(1)}", content=hint)).status_code == 202
        root = result_root(manifest)
        chain.mine([committed(1, root=root)])
        with anyio.fail_after(60):
            while await relay.relay._results._kept(str(root)) != manifest.ref:
                await anyio.lowlevel.checkpoint()
            while task_of(1) in relay.relay._results._named:
                await anyio.lowlevel.checkpoint()


async def test_streams_have_seats_and_give_them_back(tmp_path: Path) -> None:
    limits = GENEROUS.model_copy(update={"max_streams_a_client": 1})
    path = f"/v1/progress/{task_of(1)}"
    async with running(tmp_path, limits=limits) as relay:
        async with relay.client.stream("GET", path):
            assert (await relay.client.get(path)).status_code == 429
            assert (await relay.json("/v1/health"))["streams"] == 1
        with anyio.fail_after(60):
            while (await relay.json("/v1/health"))["streams"]:
                pass
            async with relay.client.stream("GET", path) as reply:
                assert reply.status_code == 200


async def test_a_stream_that_has_nothing_to_tell_says_that_it_lives(tmp_path: Path) -> None:
    limits = GENEROUS.model_copy(update={"heartbeat_s": 0.02})
    async with running(tmp_path, limits=limits) as relay:
        with anyio.fail_after(60):
            async with relay.client.stream("GET", f"/v1/progress/{task_of(1)}") as reply:
                lines = (line async for line in reply.aiter_lines() if line)
                assert [await anext(lines) for _ in range(3)] == [": still here"] * 3


async def test_a_stream_ends_after_its_time(tmp_path: Path) -> None:
    limits = GENEROUS.model_copy(update={"stream_s": 0.1})
    async with running(tmp_path, limits=limits) as relay:
        with anyio.fail_after(60):
            assert (await relay.client.get(f"/v1/progress/{task_of(1)}")).status_code == 200


async def test_a_reader_sees_its_stream_end_when_the_relay_stops(tmp_path: Path) -> None:
    reading, ended = anyio.Event(), anyio.Event()

    async def read(url: str) -> None:
        async with (
            httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as reader,
            reader.stream("GET", f"/v1/progress/{task_of(1)}") as reply,
        ):
            reading.set()
            await reply.aread()  # raises where the connection is cut and not closed
            ended.set()

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group, running(tmp_path) as relay:
            group.start_soon(read, relay.relay.url)
            await reading.wait()
    assert ended.is_set()
