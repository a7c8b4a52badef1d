"""Pages as their readers meet them: parsed without a browser, held against what all pages keep."""

from __future__ import annotations

from collections import Counter
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import httpx

VOID = {"br", "hr", "img", "input", "link", "meta", "wbr"}
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


class Page(HTMLParser):
    """A page that was parsed; what every page must keep was checked."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__(convert_charrefs=True)
        self.answer = answer
        self.links: list[str] = []
        self.loads: list[str] = []
        self.tags: Counter[str] = Counter()
        self.ids: Counter[str] = Counter()
        self.labelled: set[str] = set()
        self.fields: dict[str, str] = {}
        self.forms: list[tuple[str, str]] = []
        self._labels: list[tuple[str, str]] = []
        self._label: list[str] = []
        self._parts: list[str] = []
        self._open: list[str] = []
        self.feed(answer.text)
        self.close()
        assert not self._open, self._open
        self._check()

    @property
    def text(self) -> str:
        """All that can be read, its white space joined."""
        return " ".join("".join(self._parts).split())

    @property
    def local(self) -> set[str]:
        """Paths and queries of the links that lead on."""
        base = str(self.answer.request.url)
        joined = (urlsplit(urljoin(base, link)) for link in self.links + self.loads)
        return {f"{at.path}?{at.query}" if at.query else at.path for at in joined}

    def labels(self) -> list[str]:
        """Return the texts of the links, in order."""
        return [label for label, _ in self._labels]

    def next(self, label: str) -> str | None:
        """Return where the link of that text leads, None where there is none."""
        link = dict(self._labels).get(label)
        return None if link is None else urljoin(str(self.answer.request.url), link)

    def download(self) -> str:
        """Return where the bytes of the file are that the page is about."""
        found = self.next("Download")
        assert found is not None
        return found

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags[f"svg {tag}" if "svg" in self._open else tag] += 1
        self._tag(tag, given)
        for name in given:
            assert not name.startswith("on"), (tag, name)
            assert name != "style", tag
        if "id" in given:
            self.ids[given["id"] or ""] += 1
        if tag not in VOID and not (self.get_starttag_text() or "").endswith("/>"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, tag
        if tag == "a":
            self._labels.append((" ".join("".join(self._label).split()), self.links[-1]))

    def handle_data(self, data: str) -> None:
        assert self._open[-1:] != ["script"] or not data.strip(), "a script in the page"
        self._parts.append(data)
        if "a" in self._open:
            self._label.append(data)

    def _tag(self, tag: str, given: dict[str, str | None]) -> None:
        if tag in ("td", "th"):
            self._parts.append(" ")
        if tag == "a":
            self._label = []
            self.links.append(given["href"] or "")
        elif tag in ("img", "script"):
            self.loads.append(given["src"] or "")
            assert tag != "img" or given["alt"]
        elif tag == "link":
            self.loads.append(given["href"] or "")
        elif tag == "label":
            self.labelled.add(given["for"] or "")
        elif tag == "input":
            self.fields[given["name"] or ""] = given.get("value") or ""
            assert given.get("type") == "hidden" or given["id"] in self.labelled, given
        elif tag == "form":
            self.forms.append((given["method"] or "", given["action"] or ""))
        elif tag == "th":
            assert given["scope"] in ("col", "row")
        elif tag == "html":
            assert given["lang"] == "en"

    def _check(self) -> None:
        headers = self.answer.headers
        assert headers["content-type"] == "text/html; charset=utf-8"
        policy = headers["content-security-policy"].split("; ")
        assert policy[0] == "default-src 'none'"
        assert "'unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] in ("private, no-cache", "no-store")
        assert self.tags["h1"] == self.tags["main"] == self.tags["title"] == 1
        assert self.tags["script"] == 1
        assert self.tags["table"] == self.tags["caption"]
        assert set(self.ids.values()) == {1}, self.ids
        for url in [*self.links, *self.loads, *(action for _, action in self.forms)]:
            # relative, so that a proxy may put a prefix before all
            assert url.startswith(("./", "../", "#")), url


def get(client: httpx.Client, url: str, status: int = 200) -> Page:
    """Get a page, as a browser does."""
    answer = client.get(url, headers=BROWSER, follow_redirects=True)
    assert answer.status_code == status, (url, answer.status_code, answer.text)
    return Page(answer)


def crawl(client: httpx.Client, start: str = "/") -> dict[str, httpx.Response]:
    """Follow every link, and return what there was; all of it must be there."""
    found: dict[str, httpx.Response] = {}
    waiting = [start]
    while waiting:
        url = waiting.pop()
        if url in found:
            continue
        answer = client.get(url, headers=BROWSER)
        found[url] = answer
        assert answer.status_code == 200, (url, answer.status_code, answer.text)
        if answer.headers["content-type"].startswith("text/html") and "/download/" not in url:
            waiting += Page(answer).local
    return found
