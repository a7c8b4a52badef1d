"""The conformance suite: every promise of `chunkstore.backends.base`, as tests.

A backend is tested by a subclass with a fixture that gives an empty one to each test::

    from collections.abc import Iterator

    import pytest

    from chunkstore.backends.base import Backend
    from chunkstore.testing.backend_suite import BackendSuite


    class TestMyBackend(BackendSuite):
        @pytest.fixture
        def backend(self) -> Iterator[Backend]:
            with MyBackend(...) as opened:
                yield opened

Attributes of the class say what a storage cannot do; the laws that then hold are weaker, never
absent. Needs pytest. Nothing here asks how a backend works, and nothing takes a time for granted.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import pytest

from chunkstore.backends.base import (
    Backend,
    Buffer,
    CreateOnly,
    Fetched,
    ObjectInfo,
    Overwrite,
    ReplaceIf,
)
from chunkstore.errors import (
    BackendError,
    ConditionFailedError,
    InvalidInputError,
    KeyAbsentError,
    UnavailableError,
)
from chunkstore.testing.backend_races import Races

MIB = 1 << 20

GOOD_KEYS = (
    "a",
    "config",
    "...",
    ".hidden/.file",
    "~/-/_",
    "a..b/c~d",
    "0123456789/ABCXYZabcxyz_.~-",
    "x" * 255,
    "/".join(["y" * 199] * 4),
)
"""Keys that every backend takes."""

BAD_KEYS = (
    "", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", "a b", "a\\b", "a\0",
    "a\n", "a+b", "a%2Fb", "a?b", "é", "x" * 256, "/".join(["y" * 99] * 11),
)  # fmt: skip
"""Keys that every backend refuses before it touches anything."""


def put_all(backend: Backend, keys: Sequence[str], data: bytes = b"x") -> None:
    """Put the same bytes under many keys, several at once."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: backend.put(key, [data], Overwrite()), keys))


def keys_of(backend: Backend, prefix: str = "") -> list[str]:
    """Return the keys of a listing in the order in which they came."""
    return [info.key for info in backend.list(prefix)]


class BackendSuite(Races):
    """Tests of one backend, which a subclass gives as the fixture `backend`.

    Attributes:
        many: how many keys a long listing has; an S3 page holds 1,000. The others are those of
            `Races`.
    """

    many: ClassVar[int] = 1_050

    # put and get

    @pytest.mark.parametrize("size", [0, 1, 4095, 100_000])
    def test_what_was_put_is_got(self, backend: Backend, size: int) -> None:
        """`get` returns exactly the bytes of `put`, and the version that `put` returned."""
        data = random.Random(size).randbytes(size)
        version = backend.put("some/key", [data], CreateOnly())
        assert backend.get("some/key") == Fetched(data, version)
        assert version

    def test_buffers_are_joined(self, backend: Backend) -> None:
        """Buffers of any kind, empty ones among them, become one object in their order."""
        parts: list[Buffer] = [b"one", bytearray(b"two"), b"", memoryview(b"-three-")[1:-1]]
        backend.put("kinds", parts, Overwrite())
        backend.put("nothing", [], Overwrite())
        backend.put("only-empty", [b"", bytearray()], Overwrite())
        assert backend.get("kinds").data == b"onetwothree"
        assert backend.get("nothing").data == b""
        assert backend.get("only-empty").data == b""

    def test_thousands_of_buffers(self, backend: Backend) -> None:
        """The number of buffers has no limit."""
        parts = [b"%d," % number for number in range(3000)]
        backend.put("many", parts, CreateOnly())
        assert backend.get("many").data == b"".join(parts)

    def test_a_large_object(self, backend: Backend) -> None:
        """Tens of MB in buffers of unequal size come back, whole and by ranges."""
        block = random.Random(1).randbytes(7 * MIB + 13)
        parts: list[Buffer] = [block, block[: MIB + 1], memoryview(block)[5:], block, b"end"]
        whole = b"".join(parts)
        version = backend.put("large", parts, CreateOnly())
        assert backend.head("large").length == len(whole)
        fetched = backend.get("large")
        assert fetched.version == version
        assert fetched.data == whole
        for start, end in ((0, 1), (len(block) - 1, len(block) + 2), (MIB, 20 * MIB)):
            assert backend.get("large", (start, end)).data == whole[start:end]

    def test_a_buffer_may_be_used_again(self, backend: Backend) -> None:
        """What the caller does with its buffer after `put` changes nothing that is stored."""
        buffer = bytearray(b"stored")
        backend.put("key", [buffer], Overwrite())
        buffer[:] = b"other!"
        assert backend.get("key").data == b"stored"

    def test_overwrite_writes_whatever_is_there(self, backend: Backend) -> None:
        """Overwrite makes an object, replaces one by a shorter one, and twice is like once."""
        for data in (b"long enough", b"short", b"", b"again", b"again"):
            version = backend.put("key", [data], Overwrite())
            assert backend.get("key") == Fetched(data, version)

    def test_create_only_is_done_once(self, backend: Backend) -> None:
        """A second CreateOnly is refused, even with the same bytes, and changes nothing."""
        version = backend.put("key", [b"first"], CreateOnly())
        for data in (b"second", b"first", b""):
            with pytest.raises(ConditionFailedError) as caught:
                backend.put("key", [data], CreateOnly())
            assert (caught.value.operation, caught.value.key) == ("put", "key")
            assert not caught.value.retryable
        assert backend.get("key") == Fetched(b"first", version)

    def test_create_only_after_a_deletion(self, backend: Backend) -> None:
        """A key whose object was deleted is free again."""
        backend.put("key", [b"first"], CreateOnly())
        backend.delete(["key"])
        backend.put("key", [b"second"], CreateOnly())
        assert backend.get("key").data == b"second"

    def test_replace_if_follows_the_version(self, backend: Backend) -> None:
        """ReplaceIf succeeds with the present version only, which a success makes an old one."""
        first = backend.put("key", [b"first"], CreateOnly())
        second = backend.put("key", [b"second"], ReplaceIf(first))
        assert second != first
        for stale in (first, "never-a-version"):
            with pytest.raises(ConditionFailedError):
                backend.put("key", [b"third"], ReplaceIf(stale))
        assert backend.get("key") == Fetched(b"second", second)
        third = backend.put("key", [b"third"], ReplaceIf(second))
        assert backend.get("key") == Fetched(b"third", third)

    def test_replace_if_makes_nothing(self, backend: Backend) -> None:
        """ReplaceIf of a key that is absent, or no longer there, is refused."""
        version = backend.put("gone", [b"bytes"], CreateOnly())
        backend.delete(["gone"])
        for key in ("gone", "never", "no/folder"):
            with pytest.raises(ConditionFailedError):
                backend.put(key, [b"bytes"], ReplaceIf(version))
        assert keys_of(backend) == []

    def test_versions_tell_bytes_apart(self, backend: Backend) -> None:
        """Objects of other bytes have other versions, however soon one follows another."""
        versions = [backend.put("key", [b"%04d" % n], Overwrite()) for n in range(40)]
        assert len(set(versions)) == len(versions)
        version = backend.put("key", [b"last"], ReplaceIf(versions[-1]))
        seen = {backend.get("key").version, backend.get("key", (1, 2)).version}
        seen |= {backend.head("key").version, next(iter(backend.list(""))).version}
        assert seen == {version}

    # ranges and absent keys

    def test_ranges_are_exact(self, backend: Backend) -> None:
        """A range gives the bytes from its start to before its end, and the object's version."""
        data = bytes(range(256)) * 4
        version = backend.put("key", [data], CreateOnly())
        for start, end in ((0, 1), (0, 1024), (1, 1023), (1023, 1024), (500, 501)):
            assert backend.get("key", (start, end)) == Fetched(data[start:end], version)

    @pytest.mark.parametrize("byte_range", [(0, 11), (5, 11), (9, 999), (10, 11), (50, 60)])
    def test_a_short_range_is_an_error(self, backend: Backend, byte_range: tuple[int, int]) -> None:
        """Bytes that an object does not have are an error that no repetition mends."""
        backend.put("key", [b"0123456789"], CreateOnly())
        with pytest.raises(UnavailableError) as caught:
            backend.get("key", byte_range)
        assert not caught.value.retryable

    def test_an_empty_object_has_no_range(self, backend: Backend) -> None:
        """Not even the first byte of an empty object can be got."""
        backend.put("empty", [], CreateOnly())
        assert backend.head("empty").length == 0
        with pytest.raises(UnavailableError) as caught:
            backend.get("empty", (0, 1))
        assert not caught.value.retryable

    @pytest.mark.parametrize("byte_range", [(-1, 3), (-5, -2), (3, 3), (0, 0), (5, 2)])
    def test_what_is_no_range_is_refused(
        self, backend: Backend, byte_range: tuple[int, int]
    ) -> None:
        """A range has a start that is not negative and an end behind it."""
        backend.put("key", [b"0123456789"], CreateOnly())
        with pytest.raises(InvalidInputError):
            backend.get("key", byte_range)

    @pytest.mark.parametrize("key", ["absent", "in/no/folder", "folder", "folder/key/below"])
    def test_an_absent_key_is_said_to_be_absent(self, backend: Backend, key: str) -> None:
        """`get` and `head` raise KeyAbsentError, also for the folder of a key or below one."""
        backend.put("folder/key", [b"bytes"], CreateOnly())
        calls: dict[str, Callable[[], object]] = {
            "get": lambda: backend.get(key),
            "head": lambda: backend.head(key),
        }
        for operation, call in calls.items():
            with pytest.raises(KeyAbsentError) as caught:
                call()
            assert (caught.value.operation, caught.value.key) == (operation, key)
            assert not caught.value.retryable
        with pytest.raises(KeyAbsentError):
            backend.get(key, (0, 1))

    def test_head_says_what_is_there(self, backend: Backend) -> None:
        """`head` gives key, length, version and the storage's own time of the last write."""
        version = backend.put("some/key", [b"12345"], CreateOnly())
        info = backend.head("some/key")
        assert (info.key, info.length, info.version) == ("some/key", 5, version)
        assert abs(info.modified - time.time()) < 24 * 3600  # seconds, and of this epoch
        assert backend.head("some/key") == info

    # keys

    @pytest.mark.parametrize("key", GOOD_KEYS, ids=range(len(GOOD_KEYS)))
    def test_keys_that_are_taken(self, backend: Backend, key: str) -> None:
        """Each allowed key can be put, got, listed and deleted."""
        version = backend.put(key, [b"bytes"], CreateOnly())
        assert backend.get(key) == Fetched(b"bytes", version)
        assert backend.head(key).key == key
        assert keys_of(backend) == [key]
        backend.delete([key])
        assert keys_of(backend) == []

    @pytest.mark.parametrize("key", BAD_KEYS, ids=range(len(BAD_KEYS)))
    def test_keys_that_are_refused(self, backend: Backend, key: str) -> None:
        """No method takes a key that could leave the root or mean two things."""
        calls: tuple[Callable[[], object], ...] = (
            lambda: backend.get(key),
            lambda: backend.head(key),
            lambda: backend.put(key, [b"bytes"], Overwrite()),
            lambda: backend.put(key, [b"bytes"], CreateOnly()),
            lambda: backend.put(key, [b"bytes"], ReplaceIf("1")),
            lambda: backend.delete([key]),
        )
        for call in calls:
            with pytest.raises(InvalidInputError):
                call()
        assert keys_of(backend) == []

    def test_an_object_is_no_folder(self, backend: Backend) -> None:
        """A key below that of an object, or that of its folder, is stored, or refused by an error.

        What is there stays readable. A listing may know only one of two such keys.
        """
        stored = {"object": b"1", "folder/object": b"2"}
        for key, data in stored.items():
            backend.put(key, [data], CreateOnly())
        for key in ("object/below", "folder"):
            with contextlib.suppress(BackendError):
                backend.put(key, [b"3"], CreateOnly())
                stored[key] = b"3"
        for key, data in stored.items():
            assert backend.get(key).data == data

    # list

    def test_an_empty_listing(self, backend: Backend) -> None:
        """Where nothing is, nothing is listed, and that is no error."""
        assert keys_of(backend) == []
        assert keys_of(backend, "no/such/folder/") == []

    def test_a_listing_knows_what_head_knows(self, backend: Backend) -> None:
        """Each item is what `head` says of its key."""
        for number, key in enumerate(("a", "b/c", "b/d/e")):
            backend.put(key, [b"x" * number], CreateOnly())
        listed = list(backend.list(""))
        assert [_without_time(info) for info in listed] == [
            _without_time(backend.head(key)) for key in ("a", "b/c", "b/d/e")
        ]
        for info in listed:
            assert abs(info.modified - backend.head(info.key).modified) < 2  # one tells no parts

    def test_a_prefix_is_a_folder(self, backend: Backend) -> None:
        """Only keys below the prefix are listed, at any depth, not those that look like it."""
        put_all(backend, ["a/1", "a/b/2", "a/b/c/3", "ab/4", "b/a/5", "aa"])
        assert keys_of(backend, "a/") == ["a/1", "a/b/2", "a/b/c/3"]
        assert keys_of(backend, "a/b/") == ["a/b/2", "a/b/c/3"]
        assert keys_of(backend, "a/b/c/3/") == []
        assert keys_of(backend, "c/") == []

    def test_a_listing_is_in_order_or_refused(self, backend: Backend) -> None:
        """Keys come in the order of their characters, folders or not; else there is an error."""
        keys = ["a-b/1", "a-b/2", "a.b", "a/1", "a/b/2", "a0", "aB", "a_", "a~", "b"]
        put_all(backend, keys)
        try:
            found = keys_of(backend)
        except UnavailableError as error:
            if error.retryable:
                raise
        else:
            assert found == keys
        assert keys_of(backend, "a/") == ["a/1", "a/b/2"]

    def test_a_long_listing_is_whole(self, backend: Backend) -> None:
        """Over several pages every key is there once, in order; one `delete` takes them all."""
        keys = [f"many/{number:05}" for number in range(self.many)]
        put_all(backend, ["before", "many_more", *keys])
        assert keys_of(backend, "many/") == keys
        assert keys_of(backend) == ["before", *keys, "many_more"]
        backend.delete(keys)
        assert keys_of(backend) == ["before", "many_more"]

    def test_a_listing_may_begin_behind_a_key(self, backend: Backend) -> None:
        """What comes after a key is listed, whether that object is still there or not."""
        keys = ["a/1", "a/b/2", "a/b/c/3", "a/d", "ab/4", "b/a/5"]
        put_all(backend, keys)
        behind = [*keys, "", "a/0", "a/b/2x", "a/b/c/1", "a/c", "aa", "b/a/9", "c"]
        for after in behind:
            for prefix in ("", "a/", "a/b/"):
                found = [info.key for info in backend.list(prefix, after=after)]
                right = [key for key in keys if key.startswith(prefix) and key > after]
                assert found == right, (prefix, after)

    def test_a_listing_bears_changes(self, backend: Backend) -> None:
        """What stays is listed though other objects come and go meanwhile."""
        stays = [f"folder/{number:03}-stays" for number in range(50)]
        goes = [f"folder/{number:03}-goes" for number in range(50)]
        put_all(backend, stays + goes)
        listing = backend.list("folder/")
        seen = [next(listing).key]
        backend.delete(goes)
        backend.put("folder/new", [b"x"], CreateOnly())
        seen += [info.key for info in listing]
        assert [key for key in seen if key in stays] == stays
        assert sorted(set(seen)) == seen

    # delete

    def test_delete_takes_what_is_named(self, backend: Backend) -> None:
        """The named objects go, absent ones and folders are no error, all others stay."""
        put_all(backend, ["a/1", "a/2", "a/3", "b/1"])
        backend.delete(["a/1", "absent", "no/folder", "b/1", "a/3"])
        assert keys_of(backend) == ["a/2"]
        backend.delete(["a/1", "a", "a/2/below"])
        backend.delete([])
        assert keys_of(backend) == ["a/2"]
        with pytest.raises(KeyAbsentError):
            backend.get("a/1")

    # the rest

    def test_the_probe_tells_the_truth(self, backend: Backend) -> None:
        """The probe finds what the storage honours, names it, and leaves nothing behind."""
        backend.put("key", [b"bytes"], CreateOnly())
        capabilities = backend.probe()
        assert capabilities.server
        if self.many_writers:
            assert capabilities.many_writers
        assert keys_of(backend) == ["key"]

    def test_the_address_is_printable(self, backend: Backend) -> None:
        """`url` is one line of text, and asking for it needs no storage."""
        assert backend.url.isprintable()
        assert backend.url

    def test_closing_twice(self, backend: Backend) -> None:
        """`close` may be called again, and ends a `with` block."""
        with backend as same:
            assert same is backend
            backend.put("key", [b"bytes"], CreateOnly())
        backend.close()
        backend.close()


def _without_time(info: ObjectInfo) -> tuple[str, int, str]:
    return info.key, info.length, info.version
