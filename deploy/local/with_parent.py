"""Becomes a program that ends when its parent does: `with_parent.py PROGRAM ARGUMENT...`.

For `make run`: make passes a SIGTERM on and waits for the service, but when make itself is killed with
SIGKILL, nothing would tell the service. On Linux the kernel does; elsewhere this only becomes the program.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent, then become the program of the command line."""
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it was gone before the kernel knew
            sys.exit(1)
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606  no shell on purpose


if __name__ == "__main__":
    main()
