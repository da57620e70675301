"""Every executor there is, behind one fixture; a pipeline folder with random weights for those that need one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gesso_node.executors.child import ChildExecutor
from gesso_node.executors.environment import ChildSettings
from gesso_node.executors.fake import FakeExecutor
from gesso_node.executors.port import Executor, Job
from gesso_protocol.ids import Address, BlobRef, TaskId
from gesso_protocol.spec import TextToImage
from gesso_protocol.trace import Binding

BINDING = Binding(31337, Address("0x" + "11" * 20), TaskId(b"\x07" * 32), Address("0x" + "22" * 20), b"\x09" * 32)


@pytest.fixture(scope="session")
def sample_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from gesso_node.executors.sample import write_sample_pipeline

    return write_sample_pipeline(tmp_path_factory.mktemp("model") / "sample")


@pytest.fixture(scope="session")
def xl_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from gesso_node.executors.sample_xl import write_xl_pipeline

    return write_xl_pipeline(tmp_path_factory.mktemp("model") / "xl")


@pytest.fixture
def make_job(tmp_path: Path, sample_model: Path) -> Callable[..., Job]:
    made = 0

    def make(*, deadline_s: float = 110, model_dir: Path | None = sample_model, **changes: object) -> Job:
        nonlocal made
        made += 1
        fields = {"prompt": "a red circle", "model": "sample@1", "width": 64, "height": 64, "steps": 6, "seed": 5}
        return Job(
            spec=TextToImage.model_validate({**fields, **changes}),
            model_dir=model_dir,
            out_dir=tmp_path / f"job-{made}",
            deadline_s=deadline_s,
            manifest=BlobRef.of(b"manifest"),
            binding=BINDING,
        )

    return make


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("homes")


@pytest.fixture(params=["fake", "fake-child", "diffusers-child"])
async def executor(request: pytest.FixtureRequest, homes: Path) -> AsyncIterator[Executor]:
    made: dict[str, Callable[[], Executor]] = {
        "fake": FakeExecutor,
        "fake-child": lambda: ChildExecutor("fake", homes / "fake"),
        "diffusers-child": lambda: ChildExecutor(
            "diffusers", homes / "diffusers", ChildSettings(options={"threads": 1, "device": "cpu"})
        ),
    }
    async with made[request.param]() as executor:
        yield executor
