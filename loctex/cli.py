"""What several commands say alike: options by one name with one meaning."""

import argparse
import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """--device, which `distributed.choose_device` reads."""
    parser.add_argument(
        "--device",
        default="auto",
        metavar="auto|cpu|cuda|cuda:N|mps",
        help="where to compute; auto is the GPU where there is one, else the CPU [auto]",
    )


def keep_freed_memory() -> None:
    """What this process frees it keeps for its next tensors, where the system's library is glibc.

    Each step takes and frees the same tensors of megabytes. By itself glibc gives each of them back
    to the system, and the system hands out empty pages again: 20 to 60 % of a step's time on a
    virtual machine. The most that was ever in use stays with the process until it ends, so this
    is for commands that compute and end, not for the app.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    library = ctypes.CDLL(None)
    library.mallopt(_M_MMAP_MAX, 0)
    library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
