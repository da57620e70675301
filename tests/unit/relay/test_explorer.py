"""The pages as readers see them, in a browser: on a phone nobody scrolls sideways, on no page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gesso.chain import events as on_chain
from gesso_protocol.money import Wei

from .browser import WIDE, browser
from .fakechain import ALICE, NODE, NOWHERE, FakeChain, claimed, committed, expired, registered, submitted, task_of
from .running import running
from .showcase import LONG, PAGES, showcase

pytestmark = pytest.mark.anyio
PHONE, TABLET, DESK = 390, 1020, 1280


async def test_nothing_is_wider_than_the_window(tmp_path: Path) -> None:
    async with showcase(tmp_path) as relay, browser(tmp_path) as tab:
        for width in (PHONE, TABLET, DESK):
            await tab.see(width)
            for name, path in PAGES.items():
                await tab.open(relay.relay.url + path)
                assert await tab.value("innerWidth") == width
                assert await tab.value(WIDE) == [], f"{name} at {width} pixels"


async def test_a_phone_shows_what_a_cell_is_and_dark_is_dark(tmp_path: Path) -> None:
    async with showcase(tmp_path) as relay, browser(tmp_path) as tab:
        await tab.see(PHONE, dark=True)
        await tab.open(relay.relay.url + "/tasks")
        label = "getComputedStyle(document.querySelector('td[data-label=fee]'), '::before').content"
        assert "fee" in await tab.value(label)
        assert await tab.value("getComputedStyle(document.querySelector('thead')).display") == "none"
        ground = "getComputedStyle(document.body).backgroundColor"
        dark = await tab.value(ground)
        await tab.see(DESK)
        assert await tab.value(ground) != dark
        assert await tab.value(label) == "none"
        assert await tab.value("getComputedStyle(document.querySelector('thead')).display") == "table-header-group"


async def test_tasks_name_their_models_and_say_what_was_ordered(tmp_path: Path) -> None:
    async with showcase(tmp_path) as relay:
        tasks = (await relay.client.get("/tasks")).text
        assert f">{LONG}@1</a>" in tasks
        assert 'href="/tasks?state=held"' in tasks
        of_alice = (await relay.client.get(PAGES["tasks-of"])).text
        assert f'href="/tasks?requester={ALICE}&amp;state=held"' in of_alice  # filters add up
        assert f'href="/tasks?requester={ALICE}"' in of_alice
        assert ">gesso-tiny@1</a>" in tasks
        assert f"with {LONG}@1 + bob/more-zbx@1" in (await relay.client.get(PAGES["task-of-two"])).text
        assert f'<a href="/models/{LONG}@1">{LONG}@1</a> + <a href="/models/bob/more-zbx@1">' in tasks
        assert "pictures with gesso-tiny@1, for 0.02" in (await relay.client.get(PAGES["task"])).text


async def test_a_fee_in_doubt_is_not_shown_as_a_refund(tmp_path: Path) -> None:
    chain, doubted, late = FakeChain(), task_of(1), task_of(12)
    where: dict[str, Any] = NOWHERE
    burned = on_chain.TaskExpired(task=doubted, node=NODE, refund=Wei(0), **where)
    chain.mine([registered(), submitted(1), claimed(1), committed(1), burned, submitted(12), expired(12)])
    async with running(tmp_path, chain) as relay:
        await relay.indexed()
        page = (await relay.client.get(f"/tasks/{doubted}")).text
        assert "it was burned" in page
        assert "Refund" not in page
        assert "Refund" in (await relay.client.get(f"/tasks/{late}")).text


async def test_a_reader_gets_a_page_for_what_is_not_there_and_a_program_json(tmp_path: Path) -> None:
    chain = FakeChain()
    chain.mine([registered()])
    reader = {"Accept": "text/html,application/xhtml+xml"}
    async with running(tmp_path, chain) as relay:
        await relay.indexed()
        for path, status in (("/nowhere", 404), ("/tasks/0x1", 400), ("/nodes?colour=red", 400)):
            page = await relay.client.get(path, headers=reader)
            assert (page.status_code, page.headers["content-type"]) == (status, "text/html; charset=utf-8")
            assert "default-src 'none'" in page.headers["content-security-policy"]
            program = await relay.client.get(path)
            assert (program.status_code, "code" in program.json()) == (status, True)
        assert (await relay.client.get("/v1/tasks/0x1", headers=reader)).json()["code"]
        assert "64 lower-case hex digits" in (await relay.client.get("/tasks/0x1", headers=reader)).text
        assert "&lt;script&gt;" in (await relay.client.get("/tasks?<script>=1", headers=reader)).text
        assert (await relay.client.post("/nodes", headers=reader)).status_code == 405
        assert (await relay.client.get(f"/nodes/{NODE}", headers=reader)).status_code == 200
        icon = await relay.client.get("/icon.svg")
        assert icon.headers["content-type"].startswith("image/svg+xml")
