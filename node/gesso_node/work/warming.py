"""Having wanted models loaded before a task needs them; what cannot be had now is fetched with its task."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from gesso_node.executors.port import Executor
from gesso_node.models.cache import ModelCache
from gesso_node.models.catalogue import Catalogue
from gesso_protocol.errors import GessoError

log = structlog.get_logger("gesso.node")


async def warm_up(executor: Executor, catalogue: Catalogue, models: ModelCache, labels: Sequence[str]) -> None:
    """Fetch and load these, one after the other. An executor without models is only started."""
    if executor.name == "fake":
        await executor.warm(None)
        return
    for label in labels:
        manifest = catalogue.models().get(label)
        if manifest is None:
            log.warning("node.prefetch-unknown", model=label)
            continue
        try:
            folder = await models.ensure(manifest)
            with models.using(manifest):
                await executor.warm(folder)
        except GessoError as error:
            log.warning("node.prefetch-failed", model=label, code=error.code, reason=error.message)
        else:
            log.info("node.model-ready", model=label)
