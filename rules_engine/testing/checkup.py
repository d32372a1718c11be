"""`camp plugin check`: an installed plugin, or one in a folder, against what every action keeps, without its author's tests.

It runs as it will run: in a child process, with nothing but the settings that are given here. Each check is one record; nothing is rendered.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rules_engine import host as hosts
from rules_engine.actions import SECRETS, Action, Change, Outcome, Parameter, PluginFailed, covers, prefixed
from rules_engine.isolation import HIDDEN
from rules_engine.project import load_program
from rules_engine.service.dispatch import idempotency_told
from rules_engine.testing.plugins import HOSTILE_VALUES, hostile_contacts, make_call, overheard

MAX_FAILURES = 3  # of one kind that are told
MAX_LINES = 4  # of what a plugin printed when it failed
MAX_LINE = 200  # characters
SAMPLES = {
    "number": 3, "boolean": True, "list": ["a"], "map": {"a": 1}, "url": "https://example.com/", "email": "ana@example.com",
    "date": "2026-03-02", "datetime": "2026-03-02T09:00:00Z", "time": "09:00", "duration": "3 days", "birthday": "--05-10",
}  # fmt: skip


class Check(NamedTuple):
    """One line of the answer. what: the plugin, or one of its actions or events; problem: "" if it holds; note: what was seen; warning:
    what holds and should be mended all the same; printed: the end of what the plugin printed when it failed."""

    what: str
    rule: str
    problem: str = ""
    note: str = ""
    warning: str = ""
    printed: str = ""


class Answer(NamedTuple):
    """What a plugin's function answered, what is wrong with it ("": nothing), the end of what was printed meanwhile, and whether it was
    late."""

    value: Any
    problem: str
    printed: str = ""
    late: bool = False


def check_plugin(host: hosts.Host, plugin: str, settings: Mapping[str, Any] | None = None) -> Iterator[Check]:
    """All checks of one plugin of the host, in order. settings: its table for the hand-overs; without it nobody is reached."""
    for problem in host.problems:
        if problem.plugin == plugin:
            yield Check(plugin, "loads", problem.reason)
    actions = [action for name, action in sorted(host.actions.items()) if host.providers[name] == plugin]
    events = [event for name, event in sorted(host.events.items()) if host.providers[name] == plugin]
    if not actions and not events:
        return
    info = host.plugins[plugin]
    for pool in host.pools.values():
        pool.rests = False  # one action that hangs must not make the others fail
    where = "in a process of its own" if info.child else "in Camp's process"
    yield Check(plugin, "loads", "", f"{where}, API {info.api}; actions: {len(actions)}, events: {len(events)}")
    yield Check(plugin, "imports nothing of Camp but what is promised", warning="; ".join(inner_imports(info.module)))
    for event in events:
        yield Check(event.name, "record", hosts.check_event(event), warning=_foreign(host, plugin, event.name))
    with tempfile.TemporaryDirectory(prefix="camp-check-") as folder:
        for action in actions:
            yield from _check_action(host, plugin, action, dict(settings or {}), Path(folder))


def _foreign(host: hosts.Host, plugin: str, name: str) -> str:
    """A warning for a name in the namespace of another plugin, or ""."""
    namespace = name.partition(".")[0]
    others = {host.providers[other] for other in host.providers if other.partition(".")[0] == namespace}
    owner = namespace if namespace in host.plugins else next(iter(sorted(others - {plugin})), plugin)
    return "" if owner == plugin or namespace == plugin else f"the namespace `{namespace}` is that of the plugin {owner}: call it {plugin}.…"


def _check_action(host: hosts.Host, plugin: str, action: Action, settings: dict[str, Any], project: Path) -> Iterator[Check]:
    yield Check(action.name, "record", hosts.check_action(action) or record_problem(action), warning=_foreign(host, plugin, action.name))
    yield Check(action.name, "example", example_problem(host, action, project), action.example)
    if action.changes is not None:
        yield from _check_changes(action)
        return
    yield from _check_settings(action, settings)
    primary, params = _sample(action.primary), {item.name: _sample(item) for item in action.parameters if item.required}
    start = time.monotonic()
    call = make_call(action, project, primary, params, settings=settings)
    answer = _perform(action, call)
    took, outcome = time.monotonic() - start, answer.value
    problem = answer.problem or ("it did not come back in time" if took > action.timeout else "")
    note = f"{outcome.state}: {outcome.detail}" if isinstance(outcome, Outcome) else ""
    yield Check(action.name, "a call is answered", problem, note, printed=answer.printed)
    yield Check(action.name, "hostile contacts", *_many(action, _contacts(action, project, primary, params, settings)))
    yield Check(action.name, "hostile arguments", *_many(action, _arguments(action, project, primary, params, settings)))
    if action.lookup is not None:
        unknown = _perform(action, call._replace(key="never-sent"), action.lookup)
        lied = "it says that what was never handed over was accepted" if _state(unknown.value) == "accepted" else ""
        yield Check(action.name, "a look-up is answered", unknown.problem or lied, _state(unknown.value), printed=unknown.printed)
    secrets = [str(value) for name, value in settings.items() if any(word in name for word in SECRETS) and len(str(value)) > 3]
    if secrets:
        told = any(secret in str(outcome) for secret in (*secrets, HIDDEN))  # a child's are hidden on the way
        yield Check(action.name, "no secret in an outcome", "it is there" if told else "")


def _check_settings(action: Action, settings: dict[str, Any]) -> Iterator[Check]:
    """What the plugin's module says of these settings."""
    with overheard() as heard:
        word, problem = idempotency_told(action, settings)
        wrong = hosts.wrong_settings(action, settings)
    printed = _end_of(heard[0])
    yield Check(action.name, "idempotency is none, key or lookup", problem, word, printed=printed if problem else "")
    if wrong:
        missing = "" if settings else "; without --settings the calls below show no more than that it says so"
        yield Check(action.name, "settings", warning="; ".join(wrong) + missing)


def _perform(action: Action, call: Any, function: Callable[[Any], Any] | None = None) -> Answer:
    function = function or action.perform
    ask = getattr(function, "ask", None)  # a child's proxy, which knows what was wrong before the answer passed the line

    def answer() -> tuple[Any, str]:
        if ask is not None:
            return ask(call)
        outcome = function(call)  # type: ignore[misc]
        return outcome, hosts.check_outcome(outcome)

    return _asked(answer)


def _asked(function: Callable[[], tuple[Any, str]]) -> Answer:
    """(answer, problem) of a call into the plugin; what is printed meanwhile stays here."""
    late, value = False, None
    with overheard() as heard:
        try:
            value, problem = function()
        except PluginFailed as failure:
            problem, late = str(failure), getattr(failure, "late", False)
        except Exception as error:
            problem = f"it raised {type(error).__name__}: {error}"
    return Answer(value, problem, _end_of(heard[0]) if problem else "", late)


def _end_of(text: str) -> str:
    """The last lines of what was printed."""
    return "\n".join(line[:MAX_LINE] for line in text.splitlines()[-MAX_LINES:])


def _state(outcome: Any) -> str:
    return outcome.state if isinstance(outcome, Outcome) else ""


def _many(action: Action, calls: Iterator[tuple[str, Any]]) -> tuple[str, str, str, str]:
    """(problem, note, no warning, printed) over many calls."""
    problems, count, printed = [], 0, ""
    for what, call in calls:
        count += 1
        answer = _perform(action, call)
        if answer.problem:
            problems.append(f"{what}: {answer.problem}")
            printed = printed or answer.printed
            if len(problems) == MAX_FAILURES:
                break
    return "; ".join(problems), f"{count} calls", "", printed


def _contacts(action: Action, project: Path, primary: Any, params: Any, settings: Any) -> Iterator[tuple[str, Any]]:
    for number, contact in enumerate(hostile_contacts()):
        odd = next((f"contact.{name} = {str(value)[:30]!a}" for name, value in contact.items() if number and type(value) is not str), "contact")
        yield odd, make_call(action, project, primary, params, settings=settings, contact=contact, key=f"contact-{number}")


def _arguments(action: Action, project: Path, primary: Any, params: Any, settings: Any) -> Iterator[tuple[str, Any]]:
    for number, value in enumerate(HOSTILE_VALUES):
        for name in (None, *(parameter.name for parameter in action.parameters)):
            said = f"{name or 'primary'} = {str(value)[:30]!a}" if not isinstance(value, int) or abs(value) < 10**9 else f"{name} = a huge number"
            given = (value, params) if name is None else (primary, {**params, name: value})
            yield said, make_call(action, project, *given, settings=settings, key=f"argument-{number}-{name}")


def _check_changes(action: Action) -> Iterator[Check]:
    """`changes` is pure, touches what `writes` names, and never raises."""
    problems: dict[str, str] = {}
    count, late, printed = 0, 0, ""
    for value, name in ((value, name) for value in (_sample(action.primary), *HOSTILE_VALUES) for name in (None, *_names(action))):
        primary, params = (value, {}) if name is None else (_sample(action.primary), {name: value})
        count += 1
        answer = _asked(lambda primary=primary, params=params: _changed(action, primary, params))  # type: ignore[misc]
        problem, printed, late = answer.problem, printed or answer.printed, late + answer.late
        if problem and (problem in problems or len(problems) < MAX_FAILURES):
            problems.setdefault(problem, f"{name or 'primary'} = {str(value)[:30]!a}: {problem}")
        if late == MAX_FAILURES:
            break
    yield Check(action.name, "changes are pure, declared and never raise", "; ".join(problems.values()), f"{count} calls", printed=printed)


def _names(action: Action) -> Iterator[str]:
    return (parameter.name for parameter in action.parameters)


def _changed(action: Action, primary: Any, params: dict[str, Any]) -> tuple[Any, str]:
    """(the changes, what is wrong with them)."""
    changes = getattr(action.changes, "ask", action.changes)  # a child's proxy remembers; here it is asked each time
    first, again = changes(primary, dict(params)), changes(primary, dict(params))
    if not isinstance(first, tuple) or not all(isinstance(change, Change) for change in first):
        return first, f"it gives {type(first).__name__}, which is no tuple of Change"
    undeclared = [change for change in first if not covers(action.writes, change, primary, params)]
    if undeclared:
        return first, f"writes does not name what {undeclared[0]} touches{prefixed(undeclared[0])}"
    return first, "" if repr(first) == repr(again) else "the same arguments give other changes the second time"


def _sample(parameter: Parameter | None) -> Any:
    if parameter is None:
        return None
    if parameter.default is not None or parameter.choices:
        return parameter.default if parameter.default is not None else parameter.choices[0]
    return SAMPLES.get(parameter.kind, "sample")


# ---------------------------------------------------------------- what the record and the module say


def record_problem(action: Action) -> str:
    """What the loader lets pass and what can't be meant, or ""."""
    for parameter in ((action.primary,) if action.primary is not None else ()) + action.parameters:
        fitting = PYTHON.get(parameter.kind)
        given = parameter.default
        if given is not None and fitting and (not isinstance(given, fitting) or (parameter.kind != "boolean" and isinstance(given, bool))):
            return f"parameter {parameter.name!r}: the default {given!r} is no {parameter.kind}"
    if action.channel in ADDRESSES and action.message_class != "internal" and action.address is None:
        return f'a message by {action.channel} needs address="{ADDRESSES[action.channel]}": without it nothing is known of where it goes'
    return ""


PYTHON: dict[str, Any] = {
    "number": (int, float), "boolean": bool, "list": (list, tuple), "map": Mapping,
    **dict.fromkeys(("text", "url", "email", "name", "template", "segment", "campaign", "event", "attribute", "tag", "choice"), str),
}  # fmt: skip
"""What a default of a kind is in Python; of the others a text may be one too."""
ADDRESSES = {"email": "email", "sms": "phone"}
"""The attribute without which a channel reaches nobody."""


def inner_imports(module: str) -> list[str]:
    """Where a plugin imports what is not promised to it: "file.py:3 imports rules_engine.store". Nothing is imported for this."""
    import ast
    from importlib.util import find_spec

    try:
        spec = find_spec(module.partition(":")[0].partition(".")[0].strip())
    except (ValueError, ImportError):
        spec = None
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    files = [file for folder in folders for file in sorted(folder.rglob("*.py"))] or [Path((spec and spec.origin) or "")]
    found = []
    for file in files:
        try:
            tree = ast.parse(file.read_bytes())
        except (OSError, ValueError, SyntaxError):
            continue
        for node in ast.walk(tree):
            names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [f"{node.module}.{name.name}" for name in node.names] if node.module in PACKAGES else [str(node.module)]
            found += [f"{file.name}:{node.lineno} imports {name}" for name in names if name.startswith("rules_engine.") and name not in PROMISED]
    return found


PACKAGES = ("rules_engine", "rules_engine.testing")
PROMISED = ("rules_engine.plugin", *(f"rules_engine.testing.{name}" for name in ("plugins", "harness", "servers")))
"""What Camp promises to plugins; the rest may change with any version."""


# ---------------------------------------------------------------- the example, as a campaign


def example_problem(host: hosts.Host, action: Action, project: Path) -> str:
    """Why the record's example is no line of the language, or "". What it reads of the event and the contact is declared for it, as
    text and, if that does not fit, as a number."""
    if not action.example.startswith(action.name):
        return f"the example must be a line of the language that begins with {action.name}"
    fields = sorted(set(re.findall(r"\bevent\.([a-z][a-z0-9_]*)", action.example)))
    attributes = sorted(set(re.findall(r"\bcontact\.([a-z][a-z0-9_]*)\b(?!\.)", action.example)))
    folder = project / "example"
    if action.primary is not None and action.primary.kind == "template":
        for name in re.findall(r'"([^"]+)"', action.example)[:1]:
            (folder / "templates").mkdir(parents=True, exist_ok=True)
            (folder / "templates" / f"{name}.txt").write_text("Subject: x\n\nx\n", encoding="utf-8")
    problem = ""
    for kind in ("text", "number"):
        found = [item for item in _diagnose(host, action, folder, kind, fields, attributes) if item.severity == "error"]
        told = [item for item in found if item.name not in ELSEWHERE]
        if not told:
            return ""
        problem = problem or f"{told[0].message} ({told[0].help})"
    return problem


ELSEWHERE = ("unknown-campaign", "unknown-segment", "undeclared-segment", "unknown-event", "unknown-attribute", "missing-placeholder")
"""What an example may name that its reader has and the scratch project has not."""


def _diagnose(host: hosts.Host, action: Action, folder: Path, kind: str, fields: list[str], attributes: list[str]) -> Any:
    with_fields = " WITH " + ", ".join(f"{name}: {kind}" for name in fields) if fields else ""
    known = load_program([_write(folder, "EVENT check.example\n")], host, build=False).model.attributes
    lines = [f"ATTRIBUTE {name}: {kind}\n" for name in attributes if name not in known]
    text = f"{''.join(lines)}EVENT check.example{with_fields}\n\nCAMPAIGN check\n  WHEN check.example\n    THEN {action.example}\nEND\n"
    return load_program([_write(folder, text)], host, build=False).diagnostics


def _write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "camp.toml").write_text("", encoding="utf-8")
    (folder / "example.camp").write_text(text, encoding="utf-8")
    return folder


# ---------------------------------------------------------------- a plugin in a folder


def sources_in(folder: Path) -> tuple[list[hosts.Source], Path]:
    """The entry points that a folder's pyproject.toml or setup.cfg declares, and where its modules are. ValueError if there are none."""
    import configparser
    import tomllib

    project = folder / "pyproject.toml"
    points: Mapping[str, str] = {}
    dist = version = ""
    try:
        if project.is_file():
            table = tomllib.loads(project.read_text(encoding="utf-8")).get("project", {})
            points = table.get("entry-points", {}).get(hosts.GROUP, {})
            dist, version = str(table.get("name", "")), str(table.get("version", ""))
        if not points and (folder / "setup.cfg").is_file():
            parser = configparser.ConfigParser(interpolation=None)
            parser.read(folder / "setup.cfg", encoding="utf-8")
            lines = parser.get("options.entry_points", hosts.GROUP, fallback="").splitlines()
            points = {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in lines) if value}
            dist, version = parser.get("metadata", "name", fallback=""), parser.get("metadata", "version", fallback="")
    except (ValueError, configparser.Error, AttributeError) as error:
        raise ValueError(f"{folder}: its pyproject.toml or setup.cfg can't be read: {' '.join(str(error).split())}") from error
    if not points:
        raise ValueError(f'{folder}: neither pyproject.toml nor setup.cfg declares an entry point of the group "{hosts.GROUP}"')
    root = folder / "src" if (folder / "src").is_dir() else folder
    dist = re.sub(r"[-_.]+", "_", dist).lower()
    return [hosts.Source(name, str(value), dist, version) for name, value in sorted(points.items())], root

