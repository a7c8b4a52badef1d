"""The pages show what the store has, whatever the names and bytes, and nothing in them runs."""

from __future__ import annotations

import io
import itertools
import tarfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from chunkstore_api.web import datasets, differences, files
from hypothesis import given
from hypothesis import strategies as st

from chunkstore import Store
from tests.api.conftest import Served, serving
from tests.api.pages import BROWSER, crawl, get

NAMES = [
    "<script>alert(1)<._script>.txt",
    "<img src=x onerror=alert(1)>.html",
    "\"quotes' & amp;.txt",
    "evil\u202etxt.exe",
    "100%2Fper cent ?and#hash+.txt",
    "שלום.txt",
    "{{ 7 * 7 }}{% raw %}.txt",
    "javascript:alert(1)",
    "..hidden",
    "~tilde",
    "a" * 255,
]
PNG = b"\x89PNG\r\n\x1a\n" + bytes(60)
CONTENTS = {
    "empty.txt": b"",
    "page.html": b"<script>alert(1)</script>",
    "picture.png": PNG,
    "wrong.png": b"<svg onload=alert(1)>",
    "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
    "table.csv": b'name,size\n"<b>bold</b>",1\nplain,2\n',
    "broken.csv": b'a,b\n"no end',
    "nul.csv": b"a\0b,c\n",
    "latin.txt": "café\n".encode("latin-1"),
    "wide.txt": "é".encode("utf-16"),
    "cut.txt": b"x" * 65535 + "é".encode(),
    "bytes.bin": bytes(range(256)) * 300,
    "deep/er/folder/file.txt": b"deep\n",
}
VERSION = "/datasets/team~odd/versions/1"


def tar_of(contents: dict[str, bytes]) -> io.BytesIO:
    """Return a tar archive, with a link and an empty folder in it too."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path, content in contents.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name, kind in (("link", tarfile.SYMTYPE), ("nothing", tarfile.DIRTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "<b>target"
            tar.addfile(member)
    archive.seek(0)
    return archive


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with datasets of odd names, odd files and odd messages."""
    place: Path = tmp_path_factory.mktemp("web")
    contents = {**{f"odd/{name}": b"odd\n" for name in NAMES}, **CONTENTS}
    with Store.create(str(place / "store"), cache_folder=place / "cache") as store:
        store.push(tar_of(contents), "team/odd", tar=True, message="<b>one</b>\ntwo\x1b[31m \u202e")
        contents["new.txt"] = contents.pop("latin.txt")
        contents["page.html"] = b"changed"
        store.push(tar_of(contents), "team/odd", tar=True, tags=["v2/final"])
        for name in ("versions", "sign-in", "a/versions/b/files/c"):
            store.push(io.BytesIO(b"x"), name, name="x")
        with serving(store) as running:
            yield running


def test_every_link_leads_somewhere(odd: Served) -> None:
    """From the first page on all links of all pages work, and all that there is, is reached."""
    found = crawl(odd.client)
    reached = {quote(f"{VERSION}/files/{path}", safe="/~") for path in CONTENTS}
    reached |= {quote(f"{VERSION}/files/odd/{name}", safe="/~") for name in NAMES}
    assert reached <= set(found)
    assert {"/store", "/datasets/versions", "/datasets/a~versions~b~files~c"} <= set(found)
    assert "/datasets/team~odd/differences?before=1&after=2" in found
    assert f"{VERSION}/folders/nothing" in found


@pytest.mark.parametrize("name", NAMES)
def test_names_are_text(odd: Served, name: str) -> None:
    """A name of any characters is shown as it is, and makes no element of the page."""
    shown = name.replace("\u202e", "\\u202e")
    folder = get(odd.client, f"{VERSION}/folders/odd")
    assert shown in folder.text
    assert folder.tags["img"] == folder.tags["b"] == 0
    page = get(odd.client, f"{VERSION}/files/odd/{quote(name)}")
    assert shown in page.text
    assert page.tags["img"] == 0
    assert odd.client.get(page.download()).content == b"odd\n"


def test_messages_and_targets_are_text(odd: Served) -> None:
    """What authors say and where links lead is shown as it is, control characters as escapes."""
    page = get(odd.client, VERSION)
    assert "<b>one</b> two\\x1b[31m \\u202e" in page.text
    assert "→ <b>target" in page.text
    assert "<b>target" in get(odd.client, f"{VERSION}/files/link").text


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("empty.txt", "The file is empty."),
        ("page.html", "<script>alert(1)</script>"),
        ("wrong.png", "<svg onload=alert(1)>"),
        ("drawing.svg", "onload='alert(1)'"),
        ("table.csv", "2 rows Row name size 1 <b>bold</b> 1 2 plain 2"),
        ("table.csv?shown=text", '"<b>bold</b>",1'),
        ("broken.csv", "no end"),
        ("nul.csv", "61 00 62"),
        ("latin.txt", "café"),
        ("wide.txt", "é"),
        ("cut.txt", "The first 64.0 KiB of 64.0 KiB."),
        ("bytes.bin", "00000010 10 11 12"),
    ],
)
def test_a_preview(odd: Served, path: str, text: str) -> None:
    """Each kind of file is shown as what it is; only images are images."""
    page = get(odd.client, f"{VERSION}/files/{path}")
    assert text in page.text
    assert page.tags["img"] == page.tags["svg"] == 0


def test_an_image_is_loaded_as_one(odd: Served) -> None:
    """An image is loaded from this server, with its type and no chance to be anything else."""
    page = get(odd.client, f"{VERSION}/files/picture.png")
    assert page.tags["img"] == 1
    answer = odd.client.get(page.download())
    assert answer.headers["content-type"] == "image/png"
    assert answer.content == PNG


@pytest.mark.parametrize("path", ["page.html", "drawing.svg", "wrong.png"])
def test_bytes_of_users_never_run_here(odd: Served, path: str) -> None:
    """However a file is got, a browser saves it, guesses nothing, and runs nothing of it."""
    routes = (f"{VERSION}/download", "/v1/datasets/team~odd/versions/1/files")
    for url in (f"{route}/{path}" for route in routes):
        headers = odd.client.get(url, headers=BROWSER).headers
        assert headers["content-disposition"].startswith("attachment;")
        assert headers["content-security-policy"] == "sandbox; default-src 'none'"
        assert headers["x-content-type-options"] == "nosniff"


def test_pages_follow_each_other(odd: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """All pages of a list have all of it once, in order."""
    for module, name in ((files, "SHOWN"), (differences, "SHOWN"), (datasets, "DATASETS_SHOWN")):
        monkeypatch.setattr(module, name, 3)
    monkeypatch.setattr(datasets, "VERSIONS_SHOWN", 1)
    paths = [entry.path for entry in odd.store.folder("team/odd@1:odd")]
    changed = [change.path for change in odd.store.diff("team/odd@1", "team/odd@2")]
    for url, label, wanted in (
        (f"{VERSION}/folders/odd", "Next page", [path.removeprefix("odd/") for path in paths]),
        ("/datasets/team~odd/differences?before=1&after=2", "Next page", changed),
        ("/", "Next page", odd.store.datasets()),
        ("/datasets/team~odd", "Older versions", ["2", "1"]),
    ):
        seen: list[str] = []
        following: str | None = url
        while following is not None:
            page = get(odd.client, following)
            labels = [text.replace("\\u202e", "\u202e") for text in page.labels()]
            seen += [text for text in labels if text in wanted]
            following = page.next(label)
        assert [text for text, _ in itertools.groupby(seen)] == wanted, url
    second = get(odd.client, get(odd.client, "/").next("Next page") or "")
    assert second.next("Previous page") is None  # the first is before it
    assert (second.next("First page") or "").endswith("/")


def test_a_folder_may_begin_anywhere(odd: Served) -> None:
    """The name that a page is to begin with need not be there."""
    page = get(odd.client, f"{VERSION}/folders/odd?begin=~")
    assert "~tilde" in page.text
    assert "..hidden" not in page.text
    assert "No name comes here" in get(odd.client, f"{VERSION}/folders/odd?begin=%F0%9F%98%80").text


def test_search(odd: Served) -> None:
    """A search shows the datasets whose names begin so, and says where there is none."""
    page = get(odd.client, "/?prefix=team/")
    assert "1 dataset whose name begins with “team/”" in page.text
    assert page.fields["prefix"] == "team/"
    for prefix in ("<b>", "nothing", "é", "%00"):
        assert "No dataset" in get(odd.client, f"/?prefix={quote(prefix)}").text


def test_paths_that_are_of_another_kind(odd: Served) -> None:
    """A file asked for as a folder, and the other way round, leads to its page."""
    page = get(odd.client, f"{VERSION}/folders/page.html")
    assert str(page.answer.url).endswith(f"{VERSION}/files/page.html")
    page = get(odd.client, f"{VERSION}/files/odd")
    assert str(page.answer.url).endswith(f"{VERSION}/folders/odd")


def test_differences(odd: Served) -> None:
    """What was added, removed and changed is said in words, with sizes."""
    text = get(odd.client, "/datasets/team~odd/differences?before=1&after=v2/final").text
    assert "removed latin.txt 5 B \N{MINUS SIGN}5 B" in text
    assert "added new.txt 5 B +5 B" in text
    assert "changed page.html 25 B 7 B \N{MINUS SIGN}18 B" in text
    same = get(odd.client, "/datasets/team~odd/differences?before=2&after=latest")
    assert "Nothing differs." in same.text


def test_the_picture_says_what_its_table_says(odd: Served) -> None:
    """The figures of the picture stand in a table, and its text names the last of them."""
    page = get(odd.client, "/datasets/team~odd")
    assert page.tags["svg rect"] == 2 + 2 * 2  # of the legend, then two for each version
    versions = odd.store.dataset("team/odd").versions
    total = sum(version.size for version in versions) / 1024
    assert f"In the last, version 2: {total:.1f} KiB as copies" in page.text


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("/datasets/nothing", "no dataset 'nothing'"),
        ("/datasets/team~odd/versions/9", "no version '9'"),
        (f"{VERSION}/files/noth", "no file or folder 'noth'"),
        (f"{VERSION}/folders/nothing-here", "no file or folder"),
        ("/datasets/team~odd/differences?before=%3Cb%3E", "no version '<b>'"),
        ("/datasets/<b>", ""),
        ("/static/nothing", ""),
    ],
)
def test_what_is_not_there_is_a_page(odd: Served, url: str, said: str) -> None:
    """A browser gets a page that says so, everybody else a problem document."""
    page = get(odd.client, url, 404)
    assert said in page.text
    assert page.tags["b"] == 0
    odd.problem(odd.client.get(url), 404, "not_found")


def test_the_api_gives_documents_to_browsers_too(odd: Served) -> None:
    """Routes of the API answer as they always do, whoever asks."""
    odd.problem(odd.client.get("/v1/datasets/nothing", headers=BROWSER), 404, "not_found")
    odd.problem(odd.client.get("/nothing", headers=BROWSER), 404, "not_found")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_pages_change_nothing(odd: Served, method: str) -> None:
    """No page takes another method than GET and HEAD."""
    for url in ("/", "/store", VERSION, f"{VERSION}/files/empty.txt"):
        answer = odd.client.request(method, url)
        assert answer.status_code == 405, url
        assert odd.client.head(url).status_code == 200


def test_damage_is_a_page_of_its_own(tmp_path: Path) -> None:
    """Where the store lost what it promised there is a page with 500 and the hint, no half one."""
    with (
        Store.create(str(tmp_path / "store"), cache_folder=tmp_path / "cache") as store,
        serving(store) as server,
    ):
        for name in ("good", "bad", "gone"):
            store.push(io.BytesIO(name.encode() * 100_000), name, name="file.txt")
        (tmp_path / "store" / "refs" / "bad").write_bytes(b"nonsense")
        manifest = store.version("gone").manifest_id.hex()
        (tmp_path / "store" / "manifests" / manifest).unlink()
        listed = get(server.client, "/")
        assert "damaged" in listed.text
        assert {"/datasets/good", "/datasets/bad"} <= listed.local
        get(server.client, "/datasets/good/versions/1/files/file.txt")
        get(server.client, "/datasets/gone")
        for url in ("/datasets/bad", "/datasets/gone/versions/1", "/datasets/bad/differences"):
            page = get(server.client, url, 500)
            assert "Hint: look with doctor" in page.text
        for pack in (tmp_path / "store" / "packs").rglob("*"):
            if pack.is_file():
                data = bytearray(pack.read_bytes())
                data[20:-40:7] = bytes(len(data[20:-40:7]))
                pack.write_bytes(data)
        for url in ("files/file.txt", "download/file.txt"):
            assert "Hint:" in get(server.client, f"/datasets/good/versions/1/{url}", 500).text


def test_a_bug_is_a_page_too(odd: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody expected is said in the same manner, without its details."""

    def fail(self: Store, *_: object, **__: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(Store, "stat", fail)
    page = get(odd.client, "/store", 500)
    assert "unexpected error" in page.text
    assert "secret detail" not in page.answer.text


def test_a_store_without_anything(served: Served) -> None:
    """A new store has pages that say what to do."""
    assert "chunkstore push ./folder NAME" in get(served.client, "/").text
    assert "0 versions of 0 datasets" in get(served.client, "/store").text
    served.store.push(tar_of({}), "only", tar=True)
    served.store.remove("only", [1])
    assert "no versions" in get(served.client, "/").text


def test_static_files_last(odd: Served) -> None:
    """What a page loads may be kept for ever under its URL, which changes with it."""
    for url in get(odd.client, "/").local:
        if url.startswith("/static/"):
            assert "immutable" in odd.client.get(url).headers["cache-control"]
            assert odd.client.get(url.partition("?")[0]).headers["cache-control"] == "no-cache"


@given(
    path=st.text("a.cstvpngjx", max_size=6)
    | st.sampled_from(["x.csv", "x.tsv", "x.png", "x.avif"]),
    head=st.binary(max_size=400) | st.text("a,;\t\"'\n\r|é\x1b", max_size=200).map(str.encode),
    more=st.integers(0, 10),
    shown=st.sampled_from(["", "text", "other"]),
)
def test_any_bytes_have_a_preview(path: str, head: bytes, more: int, shown: str) -> None:
    """Whatever a file begins with, something of bounded size is shown of it."""
    from chunkstore_api.web.previews import MOST_COLUMNS, MOST_ROWS, preview_of

    found = preview_of(path, head, len(head) + more * (len(head) > 0), shown)
    assert len(found.text) <= 6 * len(head) + 3000
    assert len(found.rows) <= MOST_ROWS
    assert len(found.columns) <= MOST_COLUMNS
    assert all(len(row) == len(found.columns) for row in found.rows)
    assert "\x1b" not in found.text + "".join(itertools.chain(found.columns, *found.rows))
