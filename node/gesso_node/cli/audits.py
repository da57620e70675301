"""`gesso node audits` and `gesso node calibrate`: how this node audits, and how far its arithmetic is from others'."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gesso_node.cli.chosen import DEFAULT_NAME, NodeName, OfNode
from gesso_protocol.errors import ConfigError, Unreachable

if TYPE_CHECKING:
    from gesso_node.auditing.rests import Unjudged
    from gesso_node.operator.calibration import Calibration, VectorSet
    from gesso_node.settings import NodeSettings
    from gesso_protocol.ids import BlobRef


async def audits(name: NodeName = DEFAULT_NAME, /, *, resume: bool = False, common: OfNode | None = None) -> None:
    """Audits and votes of this node: what it found, earned and lost, and its own error against the limit.

    Parameters
    ----------
    resume
        Take seats again for models whose audits this machine could not judge.
    """
    from gesso_node.auditing.report import AuditsReport

    common = common or OfNode()
    if resume:
        for one in await _resume(common.settings_of(name), common.said(name)):
            common.out.say(f"seats are taken again for {one.kind} {one.model} {one.dtype}")
    try:
        report = AuditsReport.model_validate(await common.ask(name, "/v1/audits"))
    except Unreachable:
        report = await _from_journal(common.settings_of(name), common.said(name))
    common.out.result(report.model_dump(mode="json"), report.summary() if common.format == "human" else None)


async def calibrate(
    name: NodeName = DEFAULT_NAME,
    /,
    *,
    vectors: Path | None = None,
    model: str | None = None,
    dtype: Literal["fp32", "fp16", "bf16"] = "fp32",
    publish: bool = False,
    common: OfNode | None = None,
) -> int:
    """Measure how far this machine's arithmetic lies from strict fp32, on inputs that are the same for everybody.

    Parameters
    ----------
    vectors
        A set of vectors; the one for the tiny base model if not given.
    model
        The model that the vectors are of (NAME@VERSION), from this node's network.
    dtype
        The type to measure.
    publish
        Put the figures where whoever keeps the table of limits can collect them: into this node's blob stores.
    """
    from gesso_node.operator.calibration import VectorSet

    common = common or OfNode()
    settings = common.settings_of(name)
    chosen = VectorSet.read(vectors or _shipped_vectors())
    named = model or chosen.vectors[0].spec.model
    measured, published = await _measure(settings, chosen, named, dtype, common, publish=publish)
    limit = _limit(measured)
    document = {**measured.model_dump(mode="json"), "of_limit": limit[0], "calibrated": limit[1]}
    if published is not None:
        document["published"] = str(published)
        common.out.say(f"published as {published}")
    common.out.result(document, _text(measured, *limit))
    return 0 if limit[0] <= 1 else 3


async def _from_journal(settings: NodeSettings, said: str) -> Any:
    from gesso_node.auditing.record import AuditRecords
    from gesso_node.auditing.report import audits_report
    from gesso_node.auditing.rests import Rests
    from gesso_node.state.journal import Journal

    async with Journal(_journal_of(settings, said), only_reads=True) as journal:
        return await audits_report(AuditRecords(journal), Rests(journal), settings.roles)


async def _resume(settings: NodeSettings, said: str) -> tuple[Unjudged, ...]:
    """Also beside the node that runs: it reads the note whenever a seat is to be had."""
    from gesso_node.auditing.rests import Rests
    from gesso_node.state.journal import Journal

    async with Journal(_journal_of(settings, said)) as journal:
        return await Rests(journal).resume()


def _journal_of(settings: NodeSettings, said: str) -> Path:
    path = settings.data_dir / "journal.sqlite"
    if not path.is_file():
        raise ConfigError("this node has never run", hint=f"start it with: gesso node run {said}")
    return path


async def _measure(
    settings: NodeSettings,
    vectors: VectorSet,
    model: str,
    dtype: Literal["fp32", "fp16", "bf16"],
    common: OfNode,
    *,
    publish: bool,
) -> tuple[Calibration, BlobRef | None]:
    from gesso.logs import configure_logs
    from gesso_node.models.cache import ModelCache
    from gesso_node.models.catalogue import Catalogue
    from gesso_node.operator.calibration import calibrate as run
    from gesso_node.parts import open_blobs, open_chain, open_executor

    configure_logs("human", "warning", node=settings.name)
    async with AsyncExitStack() as stack:
        chain = await open_chain(stack, settings)
        _, _, blobs = await open_blobs(stack, settings, None)
        catalogue = Catalogue(chain)
        await catalogue.load()
        manifest = catalogue.models().get(model)
        if manifest is None:
            raise ConfigError(f"this network lists no model {model!r}", hint="see what is: gesso model ls")
        executor = await open_executor(stack, settings)
        budget = settings.models.disk_budget_bytes
        cache = ModelCache(settings.data_dir / "models", blobs, budget_bytes=budget)
        folder = None if executor.name == "fake" else await cache.ensure(manifest)
        common.out.say(f"running {len(vectors.vectors)} steps and {len(vectors.pictures)} decodes in {dtype} …")
        measured = await run(executor, folder, manifest, vectors, dtype=dtype)
        return measured, await blobs.put(measured.encode()) if publish else None


def _shipped_vectors() -> Path:
    try:
        from importlib import resources

        path = Path(str(resources.files("gesso_devnet.model").joinpath("calibration.npz")))
    except ModuleNotFoundError:
        path = Path("calibration.npz")
    if not path.is_file():
        raise ConfigError("there are no calibration vectors here", hint="name a file: --vectors FILE")
    return path


def _limit(measured: Calibration) -> tuple[float, bool]:
    """The worst own error as a share of the committed limit, and whether that limit is calibrated."""
    from gesso_protocol.audit.limits import shipped_limits

    row = shipped_limits().row(measured.profile, measured.profile)
    return measured.within(row), row.calibrated


def _text(measured: Calibration, of_limit: float, calibrated: bool) -> str:
    state = "calibrated" if calibrated else "not calibrated: audits of it are scored, never slashed"
    return "\n".join(
        [
            f"Profile   {measured.profile}   ({state})",
            f"Vectors   {measured.vectors}   {measured.samples} steps",
            f"Branch    median {measured.branch.p50:.2g}   99.9 % {measured.branch.p999:.2g}   worst "
            f"{measured.branch.worst:.2g}",
            f"Guided    median {measured.guided.p50:.2g}   99.9 % {measured.guided.p999:.2g}   worst "
            f"{measured.guided.worst:.2g}",
            f"Pixels    {measured.rgb_levels} grey levels",
            f"Own error {of_limit:.2g} of the limit   {measured.seconds_a_step * 1000:.0f} ms a step",
        ]
    )
