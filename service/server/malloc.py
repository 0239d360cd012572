"""Configures the C library's allocator to return freed memory to the operating system."""

import ctypes

# Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_BYTES = 1 << 16


def return_freed_memory() -> None:
    """Returns freed memory to the operating system at once; call it before threads start.

    By default each thread has its own heaps. A heap keeps the memory that large pictures took as
    long as anything behind that memory is in use, so that memory rises for hours, in steps.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_ARENA_MAX, 1)
        mallopt(_MMAP_THRESHOLD, _BYTES)
        mallopt(_TRIM_THRESHOLD, _BYTES)
