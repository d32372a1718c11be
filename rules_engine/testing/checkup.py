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
from rules_engine.actions import SECRETS, Action, Change, Outcome, Parameter, covers
from rules_engine.isolation import HIDDEN
from rules_engine.project import load_program
from rules_engine.testing.plugins import HOSTILE_VALUES, hostile_contacts, make_call

MAX_FAILURES = 3  # of one kind that are told
SAMPLES = {
    "number": 3, "boolean": True, "list": ["a"], "map": {"a": 1}, "url": "https://example.com/", "email": "ana@example.com",
    "date": "2026-03-02", "datetime": "2026-03-02T09:00:00Z", "time": "09:00", "duration": "3 days", "birthday": "--05-10",
}  # fmt: skip


class Check(NamedTuple):
    """One line of the answer. what: the plugin, or one of its actions or events; problem: "" if it holds; note: what was seen."""

    what: str
    rule: str
    problem: str = ""
    note: str = ""


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
    where = "in a process of its own" if info.child else "in Camp's process"
    yield Check(plugin, "loads", "", f"{where}, API {info.api}; actions: {len(actions)}, events: {len(events)}")
    for event in events:
        yield Check(event.name, "record", hosts.check_event(event))
    with tempfile.TemporaryDirectory(prefix="camp-check-") as folder:
        for action in actions:
            yield from _check_action(host, action, dict(settings or {}), Path(folder))


def _check_action(host: hosts.Host, action: Action, settings: dict[str, Any], project: Path) -> Iterator[Check]:
    yield Check(action.name, "record", hosts.check_action(action))
    yield Check(action.name, "example", example_problem(host, action, project), action.example)
    if action.changes is not None:
        yield from _check_changes(action)
        return
    primary, params = _sample(action.primary), {item.name: _sample(item) for item in action.parameters if item.required}
    start = time.monotonic()
    call = make_call(action, project, primary, params, settings=settings)
    outcome = _perform(action, call)
    took = time.monotonic() - start
    problem = _problem(outcome) or ("it did not come back in time" if took > action.timeout else "")
    yield Check(action.name, "a call is answered", problem, f"{outcome.state}: {outcome.detail}" if isinstance(outcome, Outcome) else "")
    yield Check(action.name, "hostile contacts", *_many(action, _contacts(action, project, primary, params, settings)))
    yield Check(action.name, "hostile arguments", *_many(action, _arguments(action, project, primary, params, settings)))
    if action.lookup is not None:
        unknown = _perform(action, call._replace(key="never-sent"), action.lookup)
        lied = "it says that what was never handed over was accepted" if _state(unknown) == "accepted" else ""
        yield Check(action.name, "a look-up is answered", _problem(unknown) or lied, _state(unknown))
    secrets = [str(value) for name, value in settings.items() if any(word in name for word in SECRETS) and len(str(value)) > 3]
    if secrets:
        told = any(secret in str(outcome) for secret in (*secrets, HIDDEN))  # a child's are hidden on the way
        yield Check(action.name, "no secret in an outcome", "it is there" if told else "")


def _perform(action: Action, call: Any, function: Callable[[Any], Any] | None = None) -> Any:
    try:
        return (function or action.perform)(call)  # type: ignore[misc]
    except Exception as error:
        return f"it raised {type(error).__name__}: {error}"


def _state(outcome: Any) -> str:
    return outcome.state if isinstance(outcome, Outcome) else ""


def _problem(outcome: Any) -> str:
    """Why the engine can't act on an answer. A child's proxy tells what went wrong as `unknown`, in these words."""
    if not isinstance(outcome, Outcome):
        return outcome if isinstance(outcome, str) else f"it answered {type(outcome).__name__}, not Outcome"
    if outcome.state not in ("accepted", "failed", "retry", "unknown"):
        return f"it answered the state {outcome.state!r}"
    wrong = re.match(r"the plugin \S+ (raised|answered|gave no answer|ended its process|lost its process|closed its line|declares)", outcome.detail)
    if outcome.state in ("unknown", "retry") and wrong:
        return outcome.detail
    return "its detail is no single line" if "\n" in outcome.detail else ""


def _many(action: Action, calls: Iterator[tuple[str, Any]]) -> tuple[str, str]:
    """(problem, note) over many calls."""
    problems, count = [], 0
    for what, call in calls:
        count += 1
        problem = _problem(_perform(action, call))
        if problem:
            problems.append(f"{what}: {problem}")
            if len(problems) == MAX_FAILURES:
                break
    return "; ".join(problems), f"{count} calls"


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
    count = 0
    for value in (_sample(action.primary), *HOSTILE_VALUES):
        for name in (None, *(parameter.name for parameter in action.parameters)):
            primary, params = (value, {}) if name is None else (_sample(action.primary), {name: value})
            count += 1
            problem = _changes_problem(action, primary, params)
            if problem and (problem in problems or len(problems) < MAX_FAILURES):
                problems.setdefault(problem, f"{name or 'primary'} = {str(value)[:30]!a}: {problem}")
    yield Check(action.name, "changes are pure, declared and never raise", "; ".join(problems.values()), f"{count} calls")


def _changes_problem(action: Action, primary: Any, params: dict[str, Any]) -> str:
    changes = getattr(action.changes, "ask", action.changes)  # a child's proxy remembers; here it is asked each time
    try:
        first, again = changes(primary, dict(params)), changes(primary, dict(params))
    except Exception as error:
        return str(error)
    if not isinstance(first, tuple) or not all(isinstance(change, Change) for change in first):
        return f"it gives {type(first).__name__}, which is no tuple of Change"
    undeclared = [change for change in first if not covers(action.writes, change, primary, params)]
    if undeclared:
        return f"writes does not name what {undeclared[0]} touches"
    return "" if repr(first) == repr(again) else "the same arguments give other changes the second time"


def _sample(parameter: Parameter | None) -> Any:
    if parameter is None:
        return None
    if parameter.default is not None or parameter.choices:
        return parameter.default if parameter.default is not None else parameter.choices[0]
    return SAMPLES.get(parameter.kind, "sample")


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

