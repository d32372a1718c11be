"""The child process of one third-party plugin: loads it, and calls it when asked. Started by `rules_engine.isolation` only.

Requests come in on standard input, answers go out on standard output; both are moved out of the plugin's way first. What the plugin
prints goes to standard error, as does its standard output. The process ends, with all that the plugin started in its group, when Camp's end of
the line closes. A plugin that forks leaves a second process that must not answer: it ends where the call comes back.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import sys
import threading
from collections.abc import Mapping
from typing import Any

from rules_engine import host, wire
from rules_engine.actions import Action, Change, EventType, Outcome
from rules_engine.limits import MAX_PLUGIN_MEMORY

HIGH = 200  # descriptors from here on: out of the way of plugins that close or reuse the first few
MAX_TEXT = 4_000  # characters of an answer's texts that are passed on; Camp keeps fewer


def main() -> None:
    """Serves until the line closes."""
    import resource

    for kind, most in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_DATA, MAX_PLUGIN_MEMORY)):
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    # A service manager tells all processes of a service to end; Camp finishes its hand-overs first. (A handler, unlike SIG_IGN, is not
    # inherited by programs that the plugin starts.)
    signal.signal(signal.SIGTERM, lambda *_: None)
    line = Line()
    threading.Thread(target=line.watch, name="camp-line", daemon=True).start()
    plugin = Plugin()
    me = os.getpid()
    while True:
        number, verb, *arguments = line.read()
        try:
            answer = [number, "done", getattr(plugin, verb)(*arguments)]
        except BaseException as error:  # SystemExit too: a call that ends itself is an answer, not the end of the process
            answer = [number, "raised", _say(error)]
            _report()
        if os.getpid() != me:
            os._exit(0)
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        line.write(answer)


class Line:
    """The two pipes to Camp."""

    def __init__(self) -> None:
        self._in = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, HIGH)
        self._out = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, HIGH)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        self._known = self._identity()
        self._left = b""

    def _identity(self) -> tuple[int, ...]:
        return tuple((found.st_dev, found.st_ino) for found in (os.fstat(self._in), os.fstat(self._out)))  # type: ignore[misc]

    def watch(self) -> None:
        """Ends this process and its group once Camp is gone, even while the plugin hangs."""
        poll = select.poll()
        poll.register(self._in, 0)
        poll.poll()
        os.killpg(0, signal.SIGKILL)

    def read(self) -> Any:
        """The next request. A line that closes, or that a plugin has closed or replaced, ends the process."""
        self._check()
        while len(self._left) < wire.HEAD or len(self._left) < wire.HEAD + int.from_bytes(self._left[: wire.HEAD], "big"):
            data = os.read(self._in, 1 << 20)
            if not data:
                os._exit(0)
            self._left += data
        end = wire.HEAD + int.from_bytes(self._left[: wire.HEAD], "big")
        request, self._left = self._left[wire.HEAD : end], self._left[end:]
        return wire.load(request)

    def write(self, answer: Any) -> None:
        """Sends an answer."""
        try:
            data = wire.frame(answer)
        except ValueError as error:
            data = wire.frame([answer[0], "raised", f"the answer can't be passed on: {error}"])
        self._check()
        while data:
            data = data[os.write(self._out, data) :]

    def _check(self) -> None:
        try:
            whole = self._identity() == self._known
        except OSError:
            whole = False
        if not whole:
            os.write(2, b"the plugin closed the line to Camp\n")
            os._exit(1)


class Plugin:
    """What can be asked of the plugin: one method for each verb of the line."""

    def __init__(self) -> None:
        self._actions: dict[str, Action] = {}

    def load(self, name: str, value: str, dist: str, path: list[str]) -> dict[str, Any]:
        """Imports and registers it: its records as data, or why there are none."""
        sys.path[:] = path
        try:
            api, items = host.read_plugin(host.new_manager(), host.Source(name, value, dist))
        except host.Fault as fault:
            return {"fault": str(fault), "names": list(fault.names)}
        return {"api": api, "items": [self._item(item) for item in items]}

    def _item(self, item: host.Item) -> dict[str, Any]:
        record, data = item.record, None
        if not item.reason and isinstance(record, Action):
            self._actions.setdefault(record.name, record)
            said = _said_by_module(record, "TRANSPORTS")
            data = wire.action_data(record) | {
                "functions": [verb for verb in host.MODULE_FUNCTIONS if callable(_said_by_module(record, verb))],
                "transports": [*map(_text, said)] if isinstance(said, tuple | list) else [],
            }
        elif not item.reason and isinstance(record, EventType):
            data = wire.event_data(record)
        return {"what": item.what, "name": item.name, "reason": item.reason, "data": data}

    def perform(self, action: str, call: list[Any]) -> Any:
        """Action.perform."""
        return _outcome(self._actions[action].perform(wire.call_of(call)))  # type: ignore[misc]

    def lookup(self, action: str, call: list[Any]) -> Any:
        """Action.lookup."""
        return _outcome(self._actions[action].lookup(wire.call_of(call)))  # type: ignore[misc]

    def changes(self, action: str, primary: Any, params: Mapping[str, Any]) -> Any:
        """Action.changes."""
        changes = self._actions[action].changes(primary, params)  # type: ignore[misc]
        if not isinstance(changes, tuple) or not all(isinstance(change, Change) for change in changes):
            return f"a {type(changes).__name__} that is no tuple of Change"
        return [list(change) for change in changes]

    def idempotency(self, action: str, settings: Mapping[str, Any]) -> Any:
        """The module's own word, see `rules_engine.service.dispatch.idempotency`."""
        return _text(_said_by_module(self._actions[action], "idempotency")(settings))

    def wrong_settings(self, action: str, settings: Mapping[str, Any]) -> Any:
        """The module's own word on what is wrong with its settings: sentences."""
        return [_text(said) for said in _said_by_module(self._actions[action], "wrong_settings")(settings) or ()]


def _said_by_module(action: Action, name: str) -> Any:
    """What the module of an action's `perform` has under this name, or None."""
    return getattr(sys.modules.get(getattr(action.perform, "__module__", "") or ""), name, None)


def _outcome(answer: Any) -> Any:
    """An Outcome's fields in types that can travel, and what was wrong with them; the name of the type of what is none."""
    if not isinstance(answer, Outcome):
        return type(answer).__name__
    after = answer.retry_after
    fields = [*map(_text, answer[:3]), after if isinstance(after, int | float) and not isinstance(after, bool) else None]
    return [*fields, host.check_outcome(answer)]


def _text(value: Any) -> str:
    try:
        return str(value)[:MAX_TEXT] if value is not None else ""
    except Exception:
        return f"a {type(value).__name__}"


def _say(error: BaseException) -> str:
    text = " ".join(_text(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _report() -> None:
    """The whole report on standard error; never raises."""
    import traceback

    with contextlib.suppress(Exception):
        sys.stderr.write(traceback.format_exc(limit=-8))
