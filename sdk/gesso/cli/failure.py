"""What an exception means to the person at the terminal: a sentence, a hint, an exit code."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from dataclasses import dataclass

from gesso_protocol.errors import ConfigError, GessoError, MissingExtra

_OF_THE_MACHINE = {errno.EACCES, errno.EDQUOT, errno.ENOSPC, errno.EPERM, errno.EROFS}
_ROOM = "it needs room and the right to write there; what is on chain goes on: gesso task ls"


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure that we can explain."""

    code: str
    message: str
    hint: str | None
    exit_code: int

    def __str__(self) -> str:
        return f"error: {self.message}" + (f"\n  {self.hint}" if self.hint else "")

    def to_json(self) -> str:
        """One line for scripts; goes to stderr because stdout is for results."""
        return json.dumps({"error": {"code": self.code, "message": self.message, "hint": self.hint}})


def known_failure(error: BaseException, extra_of_module: Mapping[str, str]) -> Failure | None:
    """The explanation, or None for what only a bug can cause."""
    cause = innermost(error)
    if isinstance(cause, OSError) and cause.errno in _OF_THE_MACHINE:
        where = "this machine" if cause.filename is None else str(cause.filename)
        return Failure(ConfigError.code, f"{where} cannot be written: {cause.strerror}", _ROOM, ConfigError.exit_code)
    if isinstance(cause, ModuleNotFoundError) and cause.name:
        cause = _missing_extra(cause.name, extra_of_module) or cause
    if not isinstance(cause, GessoError):
        return None
    return Failure(cause.code, cause.message, cause.hint, cause.exit_code)


def innermost(error: BaseException) -> BaseException:
    """Task groups wrap what their tasks raise, and the parser what a command's imports raise; one typed error inside is
    the one to show."""
    if type(error) is ImportError and isinstance(error.__cause__, ModuleNotFoundError):
        return error.__cause__
    if not isinstance(error, BaseExceptionGroup):
        return error
    inner = [innermost(child) for child in error.exceptions]
    return next((child for child in inner if isinstance(child, GessoError)), inner[0])


def _missing_extra(module: str, extra_of_module: Mapping[str, str]) -> GessoError | None:
    extra = extra_of_module.get(module.partition(".")[0])
    if extra is None:
        return None
    return MissingExtra(extra, message=f"this command needs {module}, which is not installed")
