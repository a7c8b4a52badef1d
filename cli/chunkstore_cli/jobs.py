"""The course of `chunkstore run`: inputs, the process, outputs, and what is said of them.

Neighbours: `commands.run` reads the options; `host` and `container` are where it runs.
"""

from __future__ import annotations

import dataclasses
import shlex
import signal
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from chunkstore.errors import ChunkstoreError, InvalidInputError, RefusedError
from chunkstore.format.path import path_problem
from chunkstore.writer import PushOptions
from chunkstore_cli import output
from chunkstore_cli.bindings import Input, NoOutputError, Output
from chunkstore_cli.container import Container
from chunkstore_cli.documents import pull_summary, push_summary
from chunkstore_cli.exit_codes import Status
from chunkstore_cli.failures import failure_of, tell
from chunkstore_cli.host import Host
from chunkstore_cli.progress import OUTPUT, watching
from chunkstore_cli.results import pull_lines, push_lines
from chunkstore_cli.session import Session

if TYPE_CHECKING:
    from chunkstore.store import Store

Site: TypeAlias = Host | Container


class Job:
    """One run."""

    def __init__(
        self,
        session: Session,
        *,
        inputs: Sequence[Input],
        outputs: Sequence[Output],
        message: str,
        tags: Sequence[str],
        discard_on_failure: bool,
        keep_container: bool,
    ) -> None:
        """Take what is to be done, and check what would else only fail after hours.

        Raises:
            InvalidInputError: a message, a tag or the name of an output that cannot be.
        """
        PushOptions(message=message, tags=tuple(tags))
        for made in outputs:
            problem = made.name and path_problem(made.name)
            if problem:
                raise InvalidInputError(
                    f"not a path in a version: {made.name!r}: {problem}",
                    hint=f"write --out {made.path}={made.dataset} for its own",
                )
        self._session = session
        self._inputs = inputs
        self._outputs = outputs
        self._message = message
        self._tags = tags
        self._discard_on_failure = discard_on_failure
        self._keep_container = keep_container
        self._shown = dataclasses.replace(  # stdout is the process's, so no JSON of progress
            session.common, json=False, quiet=session.common.quiet or session.common.json
        )
        self._summary: dict[str, Any] = {"type": "summary", "inputs": [], "outputs": []}

    def run(self, site: Site) -> int:
        """Do all of it, and return the exit status.

        Raises:
            ChunkstoreError: an input cannot be had, or the process not be started.
        """
        self._check_places(site)
        with self._session.open_store() as store:
            self._pin(store)
        with site.ready():
            return self._run(site)

    def _run(self, site: Site) -> int:
        if self._inputs:
            with self._session.open_store() as store:
                for wanted in self._inputs:
                    self._bring(site, store, wanted)
        started = time.monotonic()
        ended = site.run()
        self._summary |= {"process": ended, "seconds": round(time.monotonic() - started, 3)}
        self._tell_end(ended)
        status = ended
        if self._outputs and not (ended and self._discard_on_failure):
            status = self._take_all(site, ended)
        self._summary["status"] = status
        if self._session.common.json:
            output.json_note(self._summary)
        return status

    def foretell(self, site: Site, command: Sequence[str]) -> int:
        """Say what would be done."""
        self._check_places(site)
        with self._session.open_store() as store:
            self._pin(store)
            for wanted in self._inputs:
                place = f"in {site.place(wanted.target)}"
                if isinstance(site, Host):
                    with watching(self._shown, site.coming) as watch:
                        result = site.bring(store, wanted, watch, dry_run=True)
                    self._summary["inputs"].append(_document(pull_summary(result, None), wanted))
                    self._say(*pull_lines(result, place, dry_run=True))
                else:
                    files, size = site.foretell(store, wanted)
                    name = {"dataset": wanted.where.dataset, "version": int(wanted.where.version)}
                    self._summary["inputs"].append(
                        {"target": wanted.target, **name, "files": files, "size": size}
                    )
                    self._say(
                        f"{wanted.where} would be {place}: "
                        f"{output.count_text(files, 'file')}, {output.size_text(size)}"
                    )
        self._say(f"would run: {shlex.join(command)}")
        for made in self._outputs:
            self._summary["outputs"].append({"path": made.path, "dataset": made.dataset})
            self._say(f"{site.place(made.path)} would be pushed to {made.dataset}")
        self._summary |= {"process": None, "seconds": 0, "status": Status.OK}
        if self._session.common.json:
            output.json_note(self._summary)
        return Status.OK

    def _check_places(self, site: Site) -> None:
        for wanted in self._inputs:
            site.place(wanted.target)
        for made in self._outputs:
            site.place(made.path)

    def _pin(self, store: Store) -> None:
        """Have every input name the version that it means now.

        Raises:
            NotFoundError: one is not there.
        """
        self._inputs = [
            dataclasses.replace(
                wanted,
                where=dataclasses.replace(
                    wanted.where, version=str(store.version(wanted.where).number)
                ),
            )
            for wanted in self._inputs
        ]
        for wanted in self._inputs:
            if wanted.where.path:
                next(iter(store.entries(wanted.where)))

    def _bring(self, site: Site, store: Store, wanted: Input) -> None:
        with watching(self._shown, site.coming) as watch:
            result = site.bring(store, wanted, watch)
        if result.left_out:
            path, reason = result.left_out[0]
            raise RefusedError(
                f"{wanted.where} is not whole in {site.place(wanted.target)}, so nothing was run: "
                f"{path}: {reason}",
                hint="clear the way, or choose another target; --links all makes all links",
            )
        self._summary["inputs"].append(_document(pull_summary(result, None), wanted))
        self._say(*pull_lines(result, f"in {site.place(wanted.target)}"))

    def _take_all(self, site: Site, ended: int) -> int:
        """Push all outputs; return the status of the process, or of the first that failed."""
        status, waiting = ended, [*self._outputs]
        try:
            while waiting:
                failed = self._take(site, waiting[0], ended)
                status = status or failed
                del waiting[0]
        finally:
            if waiting:  # a signal came
                output.note("not pushed: " + ", ".join(made.path for made in waiting))
                self._rescue(site, waiting)
        return status

    def _take(self, site: Site, made: Output, ended: int) -> int:
        """Push one output; return 0, or the status of the failure that is told."""
        tags = () if ended else self._tags
        try:
            with self._session.open_store() as store, watching(self._shown, OUTPUT) as watch:
                result = site.take(store, made, watch, message=self._message, tags=tags)
        except (ChunkstoreError, OSError) as error:
            failure = failure_of(error)
            tell(dataclasses.replace(failure, label=f"error: output {made.path}: "))
            if not isinstance(error, NoOutputError):
                self._rescue(site, [made])
            self._summary["outputs"].append(
                {"path": made.path, "dataset": made.dataset, "error": failure.document}
            )
            return failure.status
        self._summary["outputs"].append(_document(push_summary(result, None), made))
        self._say(*push_lines(result))
        if self._session.common.quiet and result.manifest_id:
            output.note(result.manifest_id.hex())
        return Status.OK

    def _rescue(self, site: Site, waiting: Sequence[Output]) -> None:
        """Say how outputs that were not pushed can be, if they stay."""
        if isinstance(site, Container):
            if not self._keep_container:
                return
            site.leave()
            output.note(f"the container {site.name} is left")
        for made in waiting:
            output.hint(f"to push it: {site.rescue(made)}")

    def _tell_end(self, ended: int) -> None:
        if ended:
            name = f" ({_signal_name(ended)})" if ended > 128 and _signal_name(ended) else ""
            self._say(f"the command ended with status {ended}{name}")

    def _say(self, *lines: str) -> None:
        if not self._shown.quiet:
            for line in lines:
                output.note(line)


def _document(summary: dict[str, Any], bound: Input | Output) -> dict[str, Any]:
    """Return the summary of a pull or push as a part of that of a run."""
    place = {"target": bound.target} if isinstance(bound, Input) else {"path": bound.path}
    return place | {key: value for key, value in summary.items() if key != "type"}


def _signal_name(ended: int) -> str:
    try:
        return signal.Signals(ended - 128).name
    except ValueError:
        return ""
