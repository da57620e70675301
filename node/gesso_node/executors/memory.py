"""However torch says that there is no memory, on a CPU or a GPU: it leaves an engine as MemoryError. No torch here."""

from __future__ import annotations

SAID = ("allocate memory", "out of memory", "not enough memory", "ALLOC_FAILED", "ALLOCATION_FAILED")
"""In messages of torch's allocators, of the CUDA runtime, of cuBLAS and of cuDNN."""


def says_no_memory(error: BaseException | None) -> bool:
    """Whether an error of a library means that memory ran out. Not all of them are torch's own `OutOfMemoryError`:
    what a library of CUDA's wants for itself, a handle or a workspace, fails in its own words."""
    if not isinstance(error, RuntimeError):
        return False
    return type(error).__name__ == "OutOfMemoryError" or any(said in str(error) for said in SAID)


class MemoryErrors:
    """Inside the block, what says that there is no memory becomes a MemoryError."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if says_no_memory(error):
            raise MemoryError(str(error)[:500]) from error
