"""Every way in which libraries say that memory ran out ends as one kind of error, and nothing else does."""

from __future__ import annotations

import pytest

from gesso_node.executors.memory import MemoryErrors, says_no_memory


class OutOfMemoryError(RuntimeError):
    """As torch's own is called."""


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        OutOfMemoryError("whatever it says"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported at some other call"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    ],
)
def test_no_memory_is_a_memory_error_whoever_says_so(error: Exception) -> None:
    assert says_no_memory(error)
    with pytest.raises(MemoryError), MemoryErrors():
        raise error


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA error: an illegal memory access was encountered"), ValueError("out of memory"), None]
)
def test_other_errors_stay_what_they_are(error: Exception | None) -> None:
    assert not says_no_memory(error)
    if error is not None:
        with pytest.raises(type(error)), MemoryErrors():
            raise error
