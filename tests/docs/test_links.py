"""Links between the pages lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

_FENCED = re.compile(r"^ *(`{3,}).*?^ *\1 *$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\]\(([^()\s]+(?:\([^()]*\))?)\)|(?:src|href)=\"([^\"]+)\"")
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
_ANCHOR = re.compile(r"<a (?:id|name)=\"([^\"]+)\"")
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:")

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def anchors(text: str) -> set[str]:
    """Return the anchors of a page, made of its headings as GitHub makes them."""
    text = _FENCED.sub("", text)
    found = set(_ANCHOR.findall(text))
    for heading in _HEADING.findall(text):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        number = 1
        while (name := anchor if number == 1 else f"{anchor}-{number - 1}") in found:
            number += 1
        found.add(name)
    return found


def broken(page: Path) -> list[str]:
    """Return the links of a page that lead nowhere."""
    text = _CODE.sub("", _FENCED.sub("", page.read_text()))
    wrong: list[str] = []
    for link in [first or second for first, second in _LINK.findall(text)]:
        if _ELSEWHERE.match(link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        lost = anchor and target.suffix == ".md" and target.exists()
        if not target.exists() or (lost and anchor not in anchors(target.read_text())):
            wrong.append(link)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links(page: Path) -> None:
    """Every relative link of a page leads to a file, and to a heading in it, that are there."""
    assert broken(page) == []


def test_broken_links_are_found(tmp_path: Path) -> None:
    """A link to no file and one to no heading are found; code is not taken for a link."""
    (tmp_path / "other.md").write_text(
        "# One `two`, three\n\n```text\n# four\n```\n# Same\n# Same\n"
    )
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n[a](other.md) [b](other.md#one-two-three) [c](#here) [d](https://x.org/y)\n"
        "[e](other.md#same-1) `[f](none.md)`\n"
        '[g](none.md) [h](other.md#four) [i](#there) ![j](none.svg) <img src="none.png">\n'
    )
    assert broken(page) == ["none.md", "other.md#four", "#there", "none.svg", "none.png"]
