"""The decorators that make a function a verb: the options of every verb, and those of several.

A verb's function takes a Session first, and returns None or the exit status where that is not 0.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import click

from chunkstore.errors import InvalidInputError
from chunkstore_cli.common import Common

if TYPE_CHECKING:
    from chunkstore.retention import Retention

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
VerbFunction = Callable[..., int | None]

SETTINGS: Final = {
    "help_option_names": ["-h", "--help"],
    "max_content_width": 100,
}


class Verb(click.Command):
    """A verb; its help lists its own options before those that all verbs have."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the two lists."""
        for heading, shared in (("Options", False), ("Options of every verb", True)):
            records = [
                record
                for option in self.get_params(ctx)
                if isinstance(option, click.Option) and isinstance(option, _Shared) is shared
                if (record := option.get_help_record(ctx)) is not None
            ]
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples as they are."""
        del ctx
        if self.epilog:
            formatter.write_paragraph()
            formatter.write(self.epilog)


class Group(click.Group):
    """A group of verbs."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the verb that is called; an unknown one is answered with the nearest."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            import difflib

            near = difflib.get_close_matches(args[0], self.list_commands(ctx), 1)
            more = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"No such verb: {args[0]!r}.{more}")
        return super().resolve_command(ctx, args)


class _Shared(click.Option):
    """An option of every verb: kept in Common, not handed to the verb."""

    def __init__(self, *names: str, **attributes: Any) -> None:
        super().__init__(names, expose_value=False, callback=_keep, **attributes)


def _keep(ctx: click.Context, option: click.Parameter, value: object) -> None:
    if value and option.name:
        setattr(ctx.find_root().obj, option.name, value)


def _shared_options() -> list[click.Option]:
    return [
        _Shared("--json", is_flag=True, help="Print JSON; what it holds is in the documentation."),
        _Shared("-q", "--quiet", is_flag=True, help="Print ids only, and no progress."),
        _Shared("--no-progress", is_flag=True, help="Show no progress."),
        _Shared("--debug", is_flag=True, help="Print a traceback where something fails."),
    ]


def _store_options() -> list[click.Option]:
    return [
        _Shared(
            "-s",
            "--store",
            metavar="URL|NAME",
            help="The store: ./folder, s3://bucket/prefix, https://host or a remote. Otherwise "
            "CHUNKSTORE_STORE, then the default remote.",
        ),
        _Shared("--endpoint", metavar="URL", help="The S3 server, such as http://127.0.0.1:9000."),
    ]


def common_options(*, store: bool = True) -> list[click.Option]:
    """Return the options of every verb; without `store` of those that need no store."""
    return (_store_options() if store else []) + _shared_options()


def verb(*, store: bool = True, examples: str = "") -> Callable[[VerbFunction], click.Command]:
    """Make a function a verb that is called as the function is.

    Args:
        store: whether it takes the options that name a store.
        examples: commands for the end of the help, one a line.
    """

    def decorate(function: VerbFunction) -> click.Command:
        @functools.wraps(function)
        def run(**parameters: Any) -> int | None:
            from chunkstore_cli.session import Session

            common = click.get_current_context().find_root().obj
            assert isinstance(common, Common)
            return function(Session.of_process(common), **parameters)

        command = click.command(
            name=function.__name__.rstrip("_"),
            cls=Verb,
            context_settings=SETTINGS,
            epilog=_as_epilog(examples),
        )(run)
        command.params += common_options(store=store)
        return command

    return decorate


def _as_epilog(examples: str) -> str:
    lines = [line.strip() for line in examples.strip().splitlines()]
    return "Examples:\n" + "".join(f"  {line}\n" for line in lines) if examples else ""


# options that several verbs have


def path_filters(function: Decorated) -> Decorated:
    """Give a verb --include and --exclude."""
    for name, what in (("exclude", "Leave out"), ("include", "Take only")):
        function = click.option(
            f"--{name}",
            multiple=True,
            metavar="PATTERN",
            help=f"{what} what matches, in the syntax of gitignore. May be repeated.",
        )(function)
    return function


def s3_options(function: Decorated) -> Decorated:
    """Give a verb the settings of an S3 server that an address can hold."""
    for option in (
        click.option(
            "--path-style", is_flag=True, help="Name the bucket in the path, not the host name."
        ),
        click.option(
            "--ca-file",
            type=click.Path(exists=True, dir_okay=False, resolve_path=True),
            help="PEM file of the certificate authorities to trust.",
        ),
        click.option("--region", metavar="NAME", help="The region of the bucket."),
    ):
        function = option(function)
    return function


def dry_run(function: Decorated) -> Decorated:
    """Give a verb -n/--dry-run."""
    return click.option("-n", "--dry-run", is_flag=True, help="Only say what would be done.")(
        function
    )


def profile(function: Decorated) -> Decorated:
    """Give a verb --profile."""
    return click.option(
        "--profile", is_flag=True, help="Say at the end where the time went, stage by stage."
    )(function)


def closeness(function: Decorated) -> Decorated:
    """Give a verb --quick, --read-data and --part."""
    for option in (
        click.option(
            "--part",
            metavar="N/M",
            default="1/1",
            callback=_parse_part,
            help="Look into the packs of the Nth of M parts only.",
        ),
        click.option("--read-data", is_flag=True, help="Read, decompress and hash every byte."),
        click.option(
            "--quick", is_flag=True, help="Believe the index instead of reading packs' directories."
        ),
    ):
        function = option(function)
    return function


def level_of(quick: bool, read_data: bool) -> Literal["listing", "directories", "data"]:
    """Return how closely `closeness` asks packs to be looked at.

    Raises:
        InvalidInputError: both were given.
    """
    if quick and read_data:
        raise InvalidInputError(
            "--quick and --read-data exclude each other", hint="leave one of them out"
        )
    return "data" if read_data else "listing" if quick else "directories"


def _parse_part(ctx: click.Context, option: click.Parameter, value: str) -> tuple[int, int]:
    number, slash, parts = value.partition("/")
    if not (slash and number.isdecimal() and parts.isdecimal() and len(value) < 12):
        raise click.BadParameter(f"{value!r} is no part; write for instance 3/28", ctx, option)
    return int(number), int(parts)


def links_option(function: Decorated) -> Decorated:
    """Give a verb --links."""
    return click.option(
        "--links",
        type=click.Choice(["none", "inside", "all"]),
        default="inside",
        show_default=True,
        help="Which symbolic links to make: none, those that stay inside the target, or all.",
    )(function)


def retention(function: Decorated) -> Decorated:
    """Give a verb --keep-last, --keep-within and --keep-tag."""
    for option in (
        click.option(
            "--keep-tag",
            "keep_tags",
            multiple=True,
            metavar="PATTERN",
            help="Of tagged versions keep those with a tag like this; else all are kept. May be "
            "repeated.",
        ),
        duration_option("--keep-within", help="Keep versions that are younger, such as 30d."),
        click.option(
            "--keep-last",
            type=click.IntRange(1),
            metavar="N",
            help="Thin out old versions: keep the last N of a dataset.",
        ),
    ):
        function = option(function)
    return function


def retention_of(last: int | None, within: int | None, tags: tuple[str, ...]) -> Retention | None:
    """Return the rule that the options of `retention` make, None without any of them."""
    from chunkstore.retention import Retention

    if last is None and within is None and not tags:
        return None
    return Retention(last=last, within=within, tags=tags or None)


def yes(function: Decorated) -> Decorated:
    """Give a verb --yes."""
    return click.option("--yes", is_flag=True, help="Do not ask.")(function)


def tokens_option(function: Decorated) -> Decorated:
    """Give a verb --tokens."""
    return click.option(
        "--tokens",
        metavar="FILE",
        help="The file that keeps tokens. Otherwise CHUNKSTORE_TOKENS.",
    )(function)


def duration_option(name: str, **attributes: Any) -> Callable[[Decorated], Decorated]:
    """Give a verb an option that takes a time in whole seconds, such as 90s, 30m, 1h or 7d."""
    return click.option(name, metavar="TIME", callback=_parse_duration, **attributes)


_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_LONGEST: Final = 100 * 366 * 86400  # beyond the year 9999 there are no dates


def _parse_duration(ctx: click.Context, option: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    digits, unit = value[:-1], value[-1:]
    if unit not in _SECONDS or not (digits.isascii() and digits.isdigit()) or len(digits) > 6:
        raise click.BadParameter(f"{value!r} is no time; write for instance 30m or 7d", ctx, option)
    seconds = int(digits) * _SECONDS[unit]
    if seconds > _LONGEST:
        raise click.BadParameter(f"{value!r} is more than 100 years", ctx, option)
    return seconds


def size_option(name: str, **attributes: Any) -> Callable[[Decorated], Decorated]:
    """Give a verb an option that takes a size, such as 65536, 64KiB or 1M."""
    return click.option(name, metavar="SIZE", callback=_parse_size, **attributes)


_FACTORS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def _parse_size(ctx: click.Context, option: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    text = value.strip().upper().removesuffix("B").removesuffix("I")
    digits = text.rstrip("KMG")
    factor = _FACTORS.get(text[len(digits) :])
    if factor is None or not digits.isdecimal() or len(digits) > 12:
        raise click.BadParameter(f"{value!r} is not a size; write for instance 64KiB", ctx, option)
    return int(digits) * factor
