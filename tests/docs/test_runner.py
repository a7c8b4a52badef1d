"""What tries the pages out fails where a page is wrong, and only there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import blocks, commands, needs_server, pages
from tests.docs.session import PageError, Session, matches

RIGHT = """
```console
$ export WORD=word && mkdir inside && cd inside
$ echo "$WORD 12"; echo error >&2
word 99
error
$ cat > file.txt <<'END'
> one
>
> two
> END
```

Between them `code`, and a hidden block:

<!--
```console
$ false   # exits 1
```
-->

```python
from pathlib import Path
import os
first = Path("file.txt").read_text()
```

1. In a list:

   ```python
   assert first == "one\\n\\ntwo\\n", first
   assert os.environ["WORD"] == "word"
   ```

```text
$ never run
```

```json
{"type": "item"}
{"type": "summary"}
```
"""


def _run(text: str, folder: Path) -> None:
    with Session("page.md", folder) as session:
        for block in blocks(text):
            session.run(block)


def test_a_right_page_passes(tmp_path: Path) -> None:
    """Shell and Python share a folder and variables, and go on from block to block."""
    before = Path.cwd()
    _run(RIGHT, tmp_path)
    assert Path.cwd() == before


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        ("```console\n$ true\n$ false\n```", "page.md:3: \\$ false\nended with status 1, not 0"),
        ("```console\n$ true   # exits 3\n```", "ended with status 0, not 3"),
        ("```console\n$ echo one; echo two\none\nzwei\n```", "but the page shows:\none\nzwei"),
        ("```console\n$ echo one; echo two\none\n```", "but the page shows"),
        ("```console\n$ exit 0\n```", "ended the shell"),
        ("```console\n$ echo 'open\n```", "ended with status"),
        ("```python\nx = 1\nraise KeyError(x)\n```", 'page.md", line 3(.|\n)*KeyError: 1'),
        ("```python\nassert 1 == 2\n```", "AssertionError"),
        ("```python\nraise SystemExit(0)\n```", "SystemExit"),
        ("```json\n{...}\n```", "no json"),
        ("```toml\na = \n```", "no toml"),
    ],
)
def test_a_wrong_page_fails(tmp_path: Path, block: str, reason: str) -> None:
    """A wrong status, a wrong line and a block that raises are found, with the line."""
    with pytest.raises(PageError, match=reason):
        _run(block, tmp_path)


def test_blocks_that_cannot_be_read_are_errors() -> None:
    """A block without an end and a console block without a command do not go unnoticed."""
    with pytest.raises(ValueError, match="no end"):
        blocks("```console\n$ true\n")
    with pytest.raises(ValueError, match="begins with"):
        commands(blocks("```console\ntrue\n```")[0])


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        (["imagenet@1 3f9a0b12cd34: 3 files"], ["imagenet@2 0123456789ab: 4 files"]),
        (["in  1.5 KiB"], ["in 980 B"]),
        (["2026-01-02 03:04:05  x"], ["2031-10-12 13:14:15 x"]),
        (["a", "...", "b"], ["a", "c", "d", "b"]),
        (["a", "...", "b"], ["a", "b"]),
        (["store at ...store"], ["store at /anywhere/store"]),
    ],
)
def test_what_may_differ(shown: list[str], printed: list[str]) -> None:
    """Numbers, ids, sizes, times and the width of gaps may differ."""
    assert matches(shown, printed)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        (["1 file added"], ["1 file faded"]),
        (["3 files"], ["3 file"]),
        (["a", "...", "b"], ["a", "b", "c"]),
        (["a"], ["a", ""]),
        (["a.c"], ["abc"]),
    ],
)
def test_what_may_not_differ(shown: list[str], printed: list[str]) -> None:
    """Words, and the number of lines, may not differ; hex digits in a word are letters."""
    assert not matches(shown, printed)


def test_a_server_is_started_where_it_is_needed() -> None:
    """Only pages that run something against the server need it."""
    assert needs_server(blocks("```console\n$ x --endpoint http://127.0.0.1:9000\n```"))
    assert not needs_server(blocks("http://127.0.0.1:9000\n```text\nhttp://127.0.0.1:9000\n```"))


def test_the_pages_are_found() -> None:
    """The README and the tutorial are tried; decision records, which show the past, are not."""
    names = [page.name for page in pages()]
    assert "README.md" in names
    assert "tutorial.md" in names
    assert not [page for page in pages() if "decisions" in page.parts]
