"""The command `chunkstore`: sets up the process, runs a verb and ends with its exit status.

Imports nothing that is not loaded already, not even `__future__`, so that Ctrl-C ends it without a
traceback from the beginning.
"""

import _signal  # type: ignore[import-not-found]  # `signal` would import for milliseconds
import os
import sys

TYPE_CHECKING = False  # `typing` takes milliseconds too
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> "NoReturn":
    """Run the command line of this process."""
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # until `catch_signals`: nothing has begun
    _fill_closed_streams()
    # Its threads would spin for 0.1 s of CPU when numpy is imported, which only looks numbers up.
    if "OPENBLAS_NUM_THREADS" not in os.environ:
        os.putenv("OPENBLAS_NUM_THREADS", "1")  # not in os.environ, which a process of `run` gets
    import io

    from chunkstore_cli.boundary import run
    from chunkstore_cli.descriptors import allow_many
    from chunkstore_cli.interrupts import catch_signals, ignore_signals
    from chunkstore_cli.streams import whole

    if isinstance(sys.stdout, io.TextIOWrapper):  # None where the shell closed it
        sys.stdout = whole(sys.stdout)
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = whole(sys.stderr)
    allow_many()
    catch_signals()
    status = run(sys.argv[1:])
    ignore_signals()
    os._exit(status)  # all is done and told: taking the interpreter apart would only cost time


def _fill_closed_streams() -> None:
    """Put something harmless where the shell closed a stream, as `>&-` does.

    Otherwise the next file that is opened, perhaps an object of a store, would be stdout.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
