"""Bytes in, content-defined chunks out. Pure.

The algorithm is FastCDC (Xia et al., USENIX ATC 2016), from the packages `fastcdc` and
`pyfastcdc`. They cut at different places, so they are two chunkers with two names: a store is
cut by the one in its config for ever. Implements section 2.2, "Chunks", of docs/design/format.md.
"""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Callable
from typing import Any, Final

from chunkstore.errors import InvalidInputError
from chunkstore.format.config import ChunkerSpec

WINDOW_SIZE: Final = 2 * 1024 * 1024
"""Bytes that are read and cut at once. Twice as many make a push 3 % faster and take 40 MB more."""


class Chunker:
    """Cuts bytes into chunks as one ChunkerSpec says; may be used by many threads."""

    def __init__(self, spec: ChunkerSpec) -> None:
        self.spec = spec
        self._cut = _CUTTERS[spec.name](spec)

    def cut(self, data: memoryview, *, final: bool) -> list[int]:
        """Return the sizes of the chunks that `data`, beginning at a cut, consists of.

        Without `final` more bytes follow, so the last, unfinished chunk is left out: the caller
        gives its bytes again before those that follow. Windows of any size give the same cuts.
        """
        if final and len(data) <= self.spec.min_size:
            return [len(data)] if data else []
        if not data:
            return []
        sizes = self._cut(data)
        if not final:
            sizes.pop()
        return sizes


@functools.cache
def slow_chunker(name: str) -> str | None:
    """Return what is slow about the installed build of a chunker and how to mend it, or None.

    Both packages fall back to pure Python, some hundred times slower, where no wheel fits and no
    compiler is there.
    """
    if name == "fastcdc":
        pure = _import_fastcdc().__module__.endswith("fastcdc_py")
    else:
        pure = ".py." in _import_pyfastcdc().__module__
    if not pure:
        return None
    return (
        f"the chunker {name!r} runs in pure Python, some hundred times slower than compiled; "
        "use Python 3.11 or 3.12 on x86-64, or install a C compiler and reinstall the package "
        f"with 'pip install --force-reinstall --no-deps --no-binary {name} {name}'"
    )


def _import_fastcdc() -> Callable[..., Any]:
    # Where it has no compiled part, the package prints to stdout when it is imported, which
    # would end up in the data of `chunkstore cat`.
    with contextlib.redirect_stdout(io.StringIO()):
        from fastcdc import fastcdc  # noqa: PLC0415  # 50 ms, only for what cuts
    return fastcdc  # type: ignore[no-any-return]  # the package has no types


def _import_pyfastcdc() -> type:
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            from pyfastcdc import FastCDC  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise InvalidInputError(
            "this store is cut by the chunker 'pyfastcdc', which is not installed",
            hint="pip install 'chunkstore-cas[pyfastcdc]'",
        ) from error
    return FastCDC


def _fastcdc(spec: ChunkerSpec) -> Callable[[memoryview], list[int]]:
    fastcdc = _import_fastcdc()
    low, average, high = spec.min_size, spec.avg_size, spec.max_size

    def cut(data: memoryview) -> list[int]:
        return [chunk.length for chunk in fastcdc(data, low, average, high)]

    return cut


def _pyfastcdc(spec: ChunkerSpec) -> Callable[[memoryview], list[int]]:
    cutter = _import_pyfastcdc()(
        avg_size=spec.avg_size, min_size=spec.min_size, max_size=spec.max_size
    )

    def cut(data: memoryview) -> list[int]:
        return [chunk.length for chunk in cutter.cut_buf(data)]

    return cut


_CUTTERS: Final = {"fastcdc": _fastcdc, "pyfastcdc": _pyfastcdc}
