"""Third-party plugins in child processes: starting them, asking them with a deadline, and saying what became of a call.

Each child is a process group of its own with a clean environment and no descriptor of ours but its three pipes. It does one call at a
time; as many children are started as calls run at once. A child that hangs, dies, floods or talks nonsense is killed with its group, and
the next call gets a new one. Answers to an earlier call are known by their number and dropped.

What the caller learns is honest: a call whose request was still unread in the pipe when the child had died did not begin, and is made once
more; after anything else it can't be told what the plugin did.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from rules_engine import wire
from rules_engine.actions import SECRETS, Call, Change, Outcome, PluginFailed, covers, prefixed
from rules_engine.limits import MAX_PLUGIN_ANSWER, MAX_PLUGIN_CHATTER, MAX_PLUGIN_FRAME

LOAD_SECONDS = 10.0  # to start, import and register
CHANGES_SECONDS = 2.0  # for `changes` and `idempotency`, which compute and never wait; they are asked within the engine's tick
GRACE_SECONDS = 5.0  # for killing and reporting, beyond what a call may take
REST_SECONDS = 30.0  # after FAILURES in a row, a plugin is left alone for so long
FAILURES = 3
QUICK = ("changes", "idempotency")  # asked for each event: a plugin that hangs there would hold up all others. Hand-overs have breakers
KEPT = 4  # idle children
REMEMBERED = 1_000  # answers of `changes`

HIDDEN = "(hidden)"  # what is told in the place of a secret
MIN_SECRET = 4  # characters; a shorter one stands in too many words

ENVIRONMENT = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
PREFIXES = ("LC_", "PYTHON")
START = "import sys; sys.path.append(sys.argv[1]); from rules_engine.child import main; main()"


class Failed(PluginFailed):
    """A call that has no answer. began: whether the plugin's code may have
    run; again: it is known that a new process can take the same call."""

    def __init__(self, reason: str, began: bool = True, again: bool = False) -> None:
        super().__init__(reason)
        self.began, self.again = began, again
        self.late = False  # the time was over


def environment(plugin: str, names: Iterable[str], variables: Mapping[str, str]) -> dict[str, str]:
    """What a plugin's process may know of ours: where programs and files are, language, zone, and its own CAMP_NAME_*. names: all
    plugins, because CAMP_PAGER_PRO_KEY belongs to `pager_pro` and not to `pager`."""
    kept = {name: text for name, text in variables.items() if name in ENVIRONMENT or name.startswith(PREFIXES)}
    return kept | {name: text for name, text in variables.items() if owner(name, names) == plugin}


def owner(variable: str, names: Iterable[str]) -> str | None:
    """The plugin to which a variable CAMP_NAME_KEY belongs: that of the longest name that fits."""
    fitting = [name for name in names if variable.startswith(f"CAMP_{name.upper()}_")]
    return max(fitting, key=len, default=None)


def secrets_in(settings: Mapping[str, Any]) -> set[str]:
    """The values of those whose name speaks of a secret."""
    named = (value for name, value in settings.items() if any(word in str(name).lower() for word in SECRETS))
    return {value for value in named if isinstance(value, str) and len(value) >= MIN_SECRET}


def hide(text: str, secrets: Iterable[str]) -> str:
    """A text without the secrets in it."""
    for secret in tuple(secrets):
        text = text.replace(secret, HIDDEN)
    return text


# ---------------------------------------------------------------- one process


class Child:
    """One process of one plugin. Not for two threads at once."""

    def __init__(self, plugin: str, variables: Mapping[str, str], secrets: Collection[str] = ()) -> None:
        self._secrets = secrets
        root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        self._plugin = plugin
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", START, root, f"camp plugin {plugin}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(variables),
            close_fds=True,
            start_new_session=True,
            bufsize=0,
        )
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._in, self._out, self._err = (pipe.fileno() for pipe in (self._process.stdin, self._process.stdout, self._process.stderr))
        for descriptor in (self._in, self._out, self._err):
            os.set_blocking(descriptor, False)
        self._death = _pidfd(self._process.pid)
        self._poll = select.poll()
        for descriptor in (self._out, self._err, self._death):
            if descriptor >= 0:
                self._poll.register(descriptor, select.POLLIN)
        self._number = 0
        self._answers = bytearray()
        self._said = bytearray()
        self._chatter = 0
        self._request = b""
        self.alive = True

    @property
    def pid(self) -> int:
        """The process, and its group."""
        return self._process.pid

    def ask(self, verb: str, *arguments: Any, seconds: float) -> Any:
        """One call. Raises Failed; the child is then dead, unless it was the plugin's own exception."""
        self.begin(verb, *arguments)
        return self.end(seconds)

    def begin(self, verb: str, *arguments: Any) -> None:
        """Sends a request. Raises Failed for one that can't be sent."""
        try:
            request = wire.frame([self._number + 1, verb, *arguments])
        except ValueError as error:
            raise Failed(f"the call can't be passed on to the plugin {self._plugin}: {error}", began=False) from None
        if len(request) > MAX_PLUGIN_FRAME:
            raise Failed(f"the call has {len(request):,} bytes, too many for the plugin {self._plugin}", began=False)
        self._number += 1
        self._chatter = 0
        self._length, self._request = len(request), request
        self._send()

    def end(self, seconds: float) -> Any:
        """The answer to the last request. Raises Failed as `ask`."""
        limit = time.monotonic() + seconds
        while True:
            answer = self._next()
            if answer is not None:
                kind, value = answer
                if kind == "raised":
                    raise Failed(f"the plugin {self._plugin} raised {hide(str(value), self._secrets)}")
                return value
            left = limit - time.monotonic()
            if left <= 0:
                failure = self._ended(f"gave no answer within {seconds:g} s, so its process was killed")
                failure.late = True
                raise failure
            self._wait(left)

    def kill(self) -> None:
        """Ends the process and all that it started in its group. Shows what it had still to say."""
        if not self.alive:
            return
        self.alive = False
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._hear()
        self._tell(b"\n" if self._said else b"")
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()
        if self._death >= 0:
            os.close(self._death)

    def _wait(self, seconds: float) -> None:
        """Until something happens, or the time is over."""
        if self._request:
            self._poll.register(self._in, select.POLLOUT)
        # Without a handle of the process, its death is looked for: another process may keep its pipes open.
        found = dict(self._poll.poll(int(seconds * 1000) + 1 if self._death >= 0 else min(int(seconds * 1000) + 1, 200)))
        if self._request:
            self._poll.unregister(self._in)
            if self._in in found:
                self._send()
        if self._err in found:
            self._hear()
        if self._out in found and not self._receive() and not self._whole():
            raise self._ended(self._fate() or "closed its line to Camp")
        if self._death in found or (self._death < 0 and self._process.poll() is not None):
            self._receive()
            if not self._whole():
                raise self._ended(self._fate() or "ended")

    def _send(self) -> None:
        try:
            while self._request:
                self._request = self._request[os.write(self._in, self._request) :]
        except BlockingIOError:
            pass
        except OSError:  # it reads no more; whether it still answers is seen on the other pipe
            pass

    def _receive(self) -> bool:
        """Reads what is there. False at the line's end."""
        while True:
            try:
                data = os.read(self._out, 1 << 16)
            except BlockingIOError:
                return True
            if not data:
                return False
            self._answers += data
            if len(self._answers) > MAX_PLUGIN_ANSWER:
                raise self._ended(f"answered more than {MAX_PLUGIN_ANSWER:,} bytes, so its process was killed")
            if len(data) < 1 << 16:
                return True

    def _whole(self) -> bool:
        return len(self._answers) >= wire.HEAD + int.from_bytes(self._answers[: wire.HEAD], "big") >= wire.HEAD <= len(self._answers)

    def _next(self) -> tuple[str, Any] | None:
        """(kind, value) of the answer to the last request, if it has come; answers to others are dropped."""
        while self._whole():
            end = wire.HEAD + int.from_bytes(self._answers[: wire.HEAD], "big")
            data = bytes(self._answers[wire.HEAD : end])
            del self._answers[:end]
            try:
                number, kind, value = wire.load(data)
            except (ValueError, TypeError):
                raise self._ended("answered nonsense, so its process was killed") from None
            if number == self._number and kind in ("done", "raised"):
                return kind, value
        return None

    def _ended(self, what: str) -> Failed:
        """Kills it; says how it ended, and whether the request had been touched."""
        self._process.poll()
        unread = len(self._request)
        with contextlib.suppress(OSError):
            if self._process.returncode is not None:  # dead before we look: nobody reads while we count
                unread += struct.unpack("i", fcntl.ioctl(self._in, termios.FIONREAD, b"\0" * 4))[0]
        self.kill()
        untouched = unread == self._length
        return Failed(f"the plugin {self._plugin} {what}", began=not untouched, again=untouched)

    def _fate(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.2)
        code = self._process.returncode
        if code is None:
            return ""
        if code >= 0:
            return f"ended its process with the exit status {code}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return f"lost its process to {name}"

    # ------------------------------------------------------------ what it prints

    def _hear(self) -> None:
        for _ in range(64):  # 4 MB at a time: who prints without end must not keep us from looking at the time
            try:
                data = os.read(self._err, 1 << 16)
            except (BlockingIOError, ValueError):
                return
            if not data:
                with contextlib.suppress(KeyError):
                    self._poll.unregister(self._err)
                return
            self._tell(data)

    def _tell(self, data: bytes) -> None:
        """Whole lines to stderr, the plugin's name in front; what is too much is counted only."""
        room = MAX_PLUGIN_CHATTER - self._chatter
        self._chatter += len(data)
        if room <= 0:
            return
        self._said += data[:room]
        if len(data) > room:
            self._said += b"\n(it prints more, which is left out)\n"
        *lines, rest = bytes(self._said).split(b"\n")
        self._said = bytearray(rest)
        for line in lines:
            text = hide(line.decode("utf-8", "replace"), self._secrets)
            sys.stderr.write(f"{self._plugin}: {''.join(c if c.isprintable() else ' ' for c in text)}\n")


def _pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return -1


# ---------------------------------------------------------------- one plugin


class Pool:
    """The children of one plugin, and what it declared. Any thread may call."""

    def __init__(self, name: str, value: str, dist: str, variables: Mapping[str, str]) -> None:
        self.name = name
        self.rests = True  # is left alone after FAILURES; `camp plugin check` asks on
        self._source = (name, value, dist)
        self._variables = dict(variables)
        self.secrets = secrets_in({key: text for key, text in variables.items() if key.startswith("CAMP_")})
        self._lock = threading.Lock()
        self._idle: list[Child] = []
        self._all: set[Child] = set()
        self._declared: Any = None
        self._failures = 0
        self._rest_until = 0.0
        self._reason = ""
        self._first: Child | None = None
        self._close = weakref.finalize(self, _kill_all, self._all)

    def begin(self) -> None:
        """Starts the first child without waiting for it, so that several plugins load side by side."""
        self._first = self._start()

    def declarations(self) -> Any:
        """What the plugin's first child answers to `load`. Raises Failed."""
        assert self._first is not None
        child, self._first = self._first, None
        self._declared = self._loaded(child)
        self._idle.append(child)
        return self._declared

    def call(self, verb: str, *arguments: Any, seconds: float) -> Any:
        """Asks an idle child, or a new one. Raises Failed."""
        try:
            return self._call(verb, *arguments, seconds=seconds)
        except Failed as failure:
            if not failure.again:
                raise
        return self._call(verb, *arguments, seconds=seconds)  # the child was dead before it read the request

    def pids(self) -> list[int]:
        """The processes that are there now."""
        with self._lock:
            return sorted(child.pid for child in self._all if child.alive)

    def close(self) -> None:
        """Ends all children."""
        self._idle.clear()
        _kill_all(self._all)

    def _call(self, verb: str, *arguments: Any, seconds: float) -> Any:
        child = self._take()
        try:
            answer = child.ask(verb, *arguments, seconds=seconds)
            self._failures = 0
            return answer
        except Failed as failure:
            if not child.alive and verb in QUICK:
                self._failed(str(failure))
            raise
        finally:
            self._give_back(child)

    def _take(self) -> Child:
        with self._lock:
            while self._idle:
                child = self._idle.pop()
                if child.alive:
                    return child
            left = self._rest_until - time.monotonic()
        if left > 0:
            raise Failed(f"{self._reason}; it is left alone for {REST_SECONDS:g} s after {FAILURES} such failures in a row", began=False)
        child = self._start()
        try:
            if self._loaded(child) == self._declared:
                return child
            reason = f"the plugin {self.name} declares something else than when Camp started; restart Camp to use it as it is now"
        except Failed as failure:
            reason = f"{failure}, while it was started again"
        self._failed(reason)
        child.kill()
        self._give_back(child)
        raise Failed(reason, began=False)

    def _start(self) -> Child:
        try:
            child = Child(self.name, self._variables, self.secrets)
        except OSError as error:
            raise Failed(f"no process can be started for the plugin {self.name}: {error.strerror}", began=False) from error
        with self._lock:
            self._all.add(child)
        child.begin("load", *self._source, sys.path)
        return child

    def _loaded(self, child: Child) -> Any:
        return child.end(LOAD_SECONDS)

    def _give_back(self, child: Child) -> None:
        with self._lock:
            if child.alive and len(self._idle) < KEPT:
                self._idle.append(child)
                return
            self._all.discard(child)
        child.kill()

    def _failed(self, reason: str) -> None:
        with self._lock:
            self._failures, self._reason = self._failures + 1, reason
            if self._failures >= FAILURES and self.rests:
                self._failures, self._rest_until = 0, time.monotonic() + REST_SECONDS


def _kill_all(children: Iterable[Child]) -> None:
    for child in list(children):
        child.kill()


# ---------------------------------------------------------------- its functions, as the engine calls them


class HandOver:
    """`perform` or `lookup` of an action. Never raises, and never takes longer than `limit` seconds. A look-up that was not made
    proves nothing: where a hand-over would be `retry`, it is `unknown`."""

    def __init__(self, pool: Pool, verb: str, action: str, seconds: float) -> None:
        self._pool, self._verb, self._action, self._seconds = pool, verb, action, seconds
        self.limit = seconds + 2 * (LOAD_SECONDS + GRACE_SECONDS)
        self.TRANSPORTS: tuple[str, ...] = ()  # what its module says, see `host.MODULE_FUNCTIONS`
        self.idempotency: Told | None = None
        self.wrong_settings: Told | None = None

    def __call__(self, call: Call) -> Outcome:
        return self.ask(call)[0]

    def ask(self, call: Call) -> tuple[Outcome, str]:
        """As a call, and what was wrong with the plugin's answer, or ""."""
        self._pool.secrets |= secrets_in(call.settings)
        try:
            answer = self._pool.call(self._verb, self._action, wire.call_data(call), seconds=self._seconds)
        except Failed as failure:
            return Outcome("unknown" if failure.began or self._verb == "lookup" else "retry", str(failure)), str(failure)
        if isinstance(answer, list) and len(answer) in (4, 5):
            state, detail, name, after, *problem = answer
            outcome = Outcome(state, *(hide(str(text), self._pool.secrets) for text in (detail, name or "")), after)
            return outcome, hide("".join(map(str, problem)), self._pool.secrets)
        problem = f"the plugin {self._pool.name} answered {answer}, not Outcome"
        return Outcome("unknown", problem), problem


class Changes:
    """`changes` of an action: pure, so its answers are remembered. Raises Failed for what is no tuple of declared changes."""

    def __init__(self, pool: Pool, action: str, writes: tuple[str, ...]) -> None:
        self._pool, self._action, self._writes = pool, action, writes
        self._known: OrderedDict[bytes, tuple[Change, ...]] = OrderedDict()

    def __call__(self, primary: Any, params: Mapping[str, Any]) -> tuple[Change, ...]:
        key = wire.dump([primary, params])
        known = self._known.get(key)
        if known is not None:
            return known
        changes = self._known[key] = self.ask(primary, params)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return changes

    def ask(self, primary: Any, params: Mapping[str, Any]) -> tuple[Change, ...]:
        """As a call, but not from memory."""
        answer = self._pool.call("changes", self._action, primary, params, seconds=CHANGES_SECONDS)
        what = f"the plugin {self._pool.name}: changes of {self._action}"
        if not isinstance(answer, list):
            raise Failed(f"{what} gave {str(answer)[:100]}")
        changes = tuple(Change(*change) for change in answer)
        for change in changes:
            if not isinstance(change.op, str) or not isinstance(change.name, str) or not covers(self._writes, change, primary, params):
                said = f"{str(change.op)[:40]} {str(change.name)[:100]}, which its `writes` does not name"
                raise Failed(f"{what} would {said}{prefixed(change)}")
        return changes


class Told:
    """What a module says by one of `host.MODULE_FUNCTIONS`, asked once for the same settings. Raises Failed."""

    def __init__(self, pool: Pool, verb: str, action: str) -> None:
        self._pool, self._verb, self._action = pool, verb, action
        self._known: dict[bytes, Any] = {}

    def __call__(self, settings: Mapping[str, Any]) -> Any:
        key = wire.dump(settings)
        if key not in self._known:
            self._pool.secrets |= secrets_in(settings)
            try:
                answer = self._pool.call(self._verb, self._action, settings, seconds=CHANGES_SECONDS)
            except Failed as failure:
                if not failure.began or failure.late:  # another time it may have an answer
                    raise
                answer = failure
            self._known[key] = [hide(str(said), self._pool.secrets) for said in answer] if isinstance(answer, list) else answer
        known = self._known[key]
        if isinstance(known, Failed):
            raise Failed(str(known))
        return known
