"""`python -m gesso_node --config file.json`: run one node until it is told to stop.

First SIGINT or SIGTERM: take nothing new, finish what is claimed, leave. Second: leave now; the journal remembers.
Prints one line of JSON on stdout when it is ready; everything else goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import structlog

from gesso.heap import keep_for_good
from gesso.logs import configure_logs
from gesso_node.alone import alone
from gesso_node.operator.api import open_api
from gesso_node.peer import Node
from gesso_node.settings import NodeSettings
from gesso_protocol.errors import GessoError

log = structlog.get_logger("gesso.node")


def main(arguments: list[str] | None = None) -> int:
    """The exit code is that of the error tree: 0 ok, 3 settings or wallet, 7 unreachable, …"""
    parser = argparse.ArgumentParser(prog="python -m gesso_node", description="Run one gesso node.")
    parser.add_argument("--config", type=Path, required=True, help="settings, a JSON file")
    parser.add_argument("--check", action="store_true", help="examine everything, print the findings, and leave")
    chosen = parser.parse_args(arguments)
    try:
        settings = NodeSettings.load(chosen.config)
        configure_logs(settings.log_format, settings.log_level, node=settings.name)
        return anyio.run(_check if chosen.check else _serve, settings)
    except GessoError as error:
        return _complain(error)
    except BaseExceptionGroup as group:
        found = _first(group)
        if found is None:
            raise
        return _complain(found)


async def _serve(settings: NodeSettings) -> int:
    async with AsyncExitStack() as stack:
        stack.enter_context(alone(settings))
        node = await stack.enter_async_context(Node.open(settings))
        opened = open_api(settings.status_port, node.status, node.examine, node.metrics, node.audits)
        url = await stack.enter_async_context(opened)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_obey_signals, node, tasks.cancel_scope)
            keep_for_good()
            _announce(node, url)
            await node.serve()
            tasks.cancel_scope.cancel()
    return 0


async def _check(settings: NodeSettings) -> int:
    async with Node.open(settings, joins=False) as node:
        findings = await node.examine()
    for finding in findings:
        sys.stdout.write(finding.line() + "\n")
    return 3 if any(finding.verdict == "bad" for finding in findings) else 0


async def _obey_signals(node: Node, scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        told = False
        async for _ in signals:
            if told:
                log.warning("node.stopping-now")
                scope.cancel()
                return
            told = True
            node.drain()


def _announce(node: Node, url: str) -> None:
    ready = {
        "ready": True,
        "name": node.settings.name,
        "wallet": str(node.address),
        "peer": str(node.transport.peer_id) if node.transport else None,
        "addresses": list(node.transport.addresses) if node.transport else [],
        "status_url": url,
    }
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()


def _complain(error: GessoError) -> int:
    sys.stderr.write(f"gesso node: {error.message}\n  hint: {error.hint}\n")
    return error.exit_code


def _first(group: BaseExceptionGroup[BaseException]) -> GessoError | None:
    """The gesso error inside a task group's errors, if that is all there is."""
    matching, rest = group.split(GessoError)
    if matching is None or rest is not None:
        return None
    error: BaseException = matching
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, GessoError) else None


if __name__ == "__main__":
    sys.exit(main())
