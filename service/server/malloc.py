"""Configures the C library's allocator to return freed memory to the system."""

import ctypes

# The parameters of mallopt(3), where the C library is glibc.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_BYTES = 1 << 16


def return_freed_memory() -> None:
    """Has freed memory returned to the system at once; call it before threads are started.

    By default each thread has heaps of its own, and keeps in them what its largest pictures took,
    as long as anything behind it is used: memory rises for hours, by steps.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_ARENA_MAX, 1)
        mallopt(_MMAP_THRESHOLD, _BYTES)
        mallopt(_TRIM_THRESHOLD, _BYTES)
