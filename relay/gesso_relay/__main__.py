"""`python -m gesso_relay --config FILE`: run a relay until it is told to stop. A JSON line on stdout says it is up."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path

import anyio

from gesso_protocol.errors import GessoError, MissingExtra

try:
    from gesso.heap import keep_for_good
    from gesso.logs import configure_logs
    from gesso_relay.doors import raise_file_limit
    from gesso_relay.peer import Relay
    from gesso_relay.settings import RelaySettings
except ModuleNotFoundError as missing:
    extra = MissingExtra("relay", message=f"a relay needs {missing.name}, which is not installed")
    sys.stderr.write(f"error: {extra.message}\nhint: {extra.hint}\n")
    raise SystemExit(extra.exit_code) from None


def main() -> int:
    """Exit status 0 after an orderly stop, else that of the error."""
    parser = argparse.ArgumentParser(prog="gesso_relay", description="Run a gesso relay.")
    parser.add_argument("--config", type=Path, required=True, help="settings file (JSON); see relay/README.md")
    parser.add_argument("--log-format", choices=("human", "json"), default="human")
    arguments = parser.parse_args()
    configure_logs(arguments.log_format, "info")
    try:
        settings = RelaySettings.load(arguments.config)
        raise_file_limit()
        anyio.run(_run, settings)
    except GessoError as error:
        sys.stderr.write(f"error: {error.message}\nhint: {error.hint}\n")
        return error.exit_code
    return 0


async def _run(settings: RelaySettings) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with Relay.open(settings) as relay:
            keep_for_good()
            ready = {"ready": True, "url": relay.url, "bootstrap": relay.bootstrap}
            sys.stdout.write(json.dumps(ready) + "\n")
            sys.stdout.flush()
            async for _ in signals:
                return


if __name__ == "__main__":
    raise SystemExit(main())
