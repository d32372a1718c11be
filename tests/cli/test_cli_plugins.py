"""`camp plugin list | show | check | new`, for what is installed and what is in a folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rules_engine import isolation
from rules_engine.cli import loading
from tests.plugins import torture

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of the path for distributions."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


def records(answer):
    return {record["plugin"]: record for record in map(json.loads, answer.out.splitlines())}


# ── list and show ──


def test_list_says_where_a_plugin_comes_from_and_where_it_runs(empty, site):
    torture.install(site, "good", torture.GOOD, "2.5")
    torture.install(site, "broken", "import nothing_of_that_name")
    found = records(empty("plugin", "list", "--json"))
    assert {key: found["good"][key] for key in ("distribution", "version", "api", "runs", "problems")} == {
        "distribution": "camp-good", "version": "2.5", "api": 1, "runs": "child process", "problems": [],
    }
    assert found["email"]["runs"] == "in process" and found["email"]["distribution"] == "camp-rules-engine" and found["email"]["version"]
    assert found["broken"]["actions"] == [] and "ModuleNotFoundError" in found["broken"]["problems"][0]
    answer = empty("plugin", "list")
    assert answer.code == 5 and "child process" in answer.out and "plugin broken: it can't be imported" in answer.err


def test_show_of_a_plugin_an_action_and_one_that_failed(empty, site):
    torture.install(site, "good", torture.GOOD, "2.5")
    torture.install(site, "broken", "os._exit(9)")
    answer = empty("plugin", "show", "good")
    assert answer.code == 0 and "plugin good  (camp-good 2.5, child process, API 1)" in answer.out and "action good.send" in answer.out
    assert "a hand-over is never repeated unless" in answer.out
    shown = json.loads(empty("plugin", "show", "good.send", "--json").out)
    assert shown["runs"] == "child process" and shown["actions"][0]["timeout"] == 5.0
    assert "exit status 9" in empty("plugin", "show", "broken").err
    assert empty("plugin", "show", "god").code == 2
    assert "the contact needs `phone`" in empty("plugin", "show", "sms.send").out
    assert json.loads(empty("plugin", "show", "sms.send", "--json").out)["actions"][0]["address"] == "phone"


def test_a_plugin_that_is_slow_to_load_is_named(empty, site, monkeypatch):
    torture.install(site, "good", torture.GOOD)
    (empty.folder / "camp.toml").touch()
    monkeypatch.setattr(loading, "SLOW", 0.0001)
    for command in (["check"], ["plugin", "list"]):
        err = empty(*command).err
        assert "warning: plugin good: loading it took" in err and 'disabled = ["good"]' in err and "plugin email:" not in err
    monkeypatch.undo()
    assert "loading it took" not in empty("check").err


def test_the_reason_is_said_where_a_name_is_missing(empty, site):
    torture.install(site, "half", """
    @hookimpl
    def register_actions():
        yield Action("other.one", "x", perform=print)
        yield Action("half.two", "x", perfrom=print)
        yield Action("other.three", "x", perform=print)
    """)
    torture.install(site, "email", torture.ONE.format("email"))
    (empty.folder / "camp.toml").write_text('name = "x"\n\n[absent]\nurl = "x"\n')
    actions = ("half.two", "half.four", "other.three", "email.do", "nobody.send")
    (empty.folder / "a.camp").write_text("EVENT go\n" + "".join(f"RULE r{n}\n  WHEN go\n    THEN {name}\nEND\n" for n, name in enumerate(actions)))
    found = [json.loads(line) for line in empty("check", "--json").out.splitlines()]
    told = {item["message"]: item["help"] for item in found}
    for name in actions[:3]:
        assert "unexpected keyword argument 'perfrom'" in told[f"the action `{name}` belongs to the plugin half, which could not be loaded"]
    left_out = told["there is no action `email.do`, and a second plugin named email was left out"]
    assert "camp_email is left out: the name is taken" in left_out
    assert "`camp plugin list`" in told["there is no action `nobody.send`"]
    assert [(item["line"], item["column"]) for item in found if item["name"] == "unknown-setting"] == [(3, 2)]


# ── check ──


def test_check_of_an_installed_plugin(empty, site):
    source = torture.GOOD.replace('writes=("contact.plan",)', 'writes=("contact.plan",), example="good.mark \\"x\\""')
    torture.install(site, "good", source)
    answer = empty("plugin", "check", "good")
    assert answer.code == 0 and "ok    good: loads: in a process of its own" in answer.out, answer
    assert "ok    good.send: hostile contacts: 241 calls" in answer.out and "all hold" in answer.err
    assert empty("plugin", "check").out == answer.out, "the only one that is not Camp's own"


def test_check_of_first_party_plugins_finds_nothing(empty):
    for name in ("points", "tag", "segment", "log", "event", "campaign", "contact", "page"):
        answer = empty("plugin", "check", name)
        assert answer.code == 0, answer


def test_check_of_a_plugin_that_does_not_load(empty, site):
    torture.install(site, "broken", "os._exit(9)")
    answer = empty("plugin", "check", "broken")
    assert answer.code == 5 and "FAIL  broken: loads: it can't be loaded: the plugin broken ended its process with the exit status 9" in answer.out


BAD = """
def send(call):
    if call.contact.get("email") is None: raise KeyError("email")
    if call.primary == "": os._exit(3)
    return Outcome("accepted", str(call.settings.get("api_token")))
calls = 0
def change(primary, params):
    global calls
    calls += 1
    return (Change("set", "plan", calls),) if primary is not True else (Change("set", "email", "x"),)
@hookimpl
def register_actions():
    yield Action("bad.send", "Send.", Parameter("text"), perform=send, lookup=lambda call: Outcome("accepted"), timeout=2.0,
                 example="bad.send 5 +")
    yield Action("bad.mark", "Mark.", Parameter("text"), changes=change, writes=("contact.plan",), example="mark")
"""


def test_check_says_what_does_not_hold(empty, site):
    torture.install(site, "bad", BAD)
    (empty.folder / "test.toml").write_text('[bad]\napi_token = "hunter2"\n')
    answer = empty("plugin", "check", "bad", "--settings", "test.toml")
    assert answer.code == 1
    failed = [line for line in answer.out.splitlines() if line.startswith("FAIL")]
    for words in ("bad.send: example: ", "bad.send: hostile contacts: ", "raised KeyError", "exit status 3", "never handed over was accepted",
                  "bad.send: no secret in an outcome", "bad.mark: example: the example must be", "other changes the second time",
                  "which its `writes` does not name"):  # fmt: skip
        assert any(words in line for line in failed), (words, answer)
    found = [json.loads(line) for line in empty("plugin", "check", "bad", "--json").out.splitlines()]
    assert {record["ok"] for record in found} == {True, False} and all(record["plugin"] == "bad" for record in found)


def failed(answer):
    return [line for line in answer.out.splitlines() if line.startswith("FAIL")]


def test_check_asks_on_after_an_action_that_hangs(empty, site, monkeypatch):
    monkeypatch.setattr(isolation, "CHANGES_SECONDS", 0.4)
    names = ("aa", "hangs", "zz")
    torture.install(site, "seven", "\n".join(
        f"def {name}(primary, params):\n    {'time.sleep(60)' if name == 'hangs' else 'return ()'}" for name in names
    ) + "\n@hookimpl\ndef register_actions():\n" + "\n".join(
        f"    yield Action('seven.{name}', 'x', changes={name}, example='seven.{name}')" for name in names))  # fmt: skip
    answer = empty("plugin", "check", "seven")
    assert len(failed(answer)) == 1 and "seven.hangs: changes" in failed(answer)[0] and "gave no answer within" in failed(answer)[0], answer
    assert "left alone" not in answer.out


def test_check_of_a_folder_can_start_the_plugin_again(empty):
    (empty.folder / "p").mkdir()
    (empty.folder / "p" / "pyproject.toml").write_text('[project]\nname = "p"\n[project.entry-points."camp.plugins"]\nfolder = "in_folder"\n')
    (empty.folder / "p" / "in_folder.py").write_text(torture.HEAD + """
def send(call):
    if call.contact.get("email") is None: os._exit(3)
    return Outcome("accepted")
@hookimpl
def register_actions():
    yield Action("folder.send", "x", perform=send, example="folder.send")
""")
    (line,) = failed(empty("plugin", "check", "./p"))
    assert line.count("exit status 3") == 3, "without the path it can't be loaded after its first death"


ODD = """
def send(call):
    return {outcome}
def idempotency(settings):
    {idempotency}
@hookimpl
def register_actions():
    yield Action("odd.send", "x", {parameter}, perform=send, timeout=2.0, example="odd.send", {more})
"""
FINE = {"outcome": "Outcome('accepted')", "idempotency": "return 'none'", "parameter": "Parameter('n', 'number', default=3)", "more": ""}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, ""),
        ({"outcome": "Outcome('retry', retry_after=-5)"}, "its retry_after must be seconds from 0, not -5"),
        ({"outcome": "Outcome('retry', retry_after=float('nan'))"}, "its retry_after must be seconds from 0, not nan"),
        ({"outcome": "Outcome('accepted', {'a': 1}, 42)"}, "its detail must be one line of text, not {'a': 1}"),
        ({"outcome": "Outcome('accepted', '', 42)"}, "its provider_id must be a text, not 42"),
        ({"idempotency": "raise ValueError('nope')"}, "raised ValueError: nope"),
        ({"idempotency": "return 'sometimes'"}, "it answered 'sometimes'"),
        ({"parameter": "Parameter('n', 'number', default='abc')"}, "the default 'abc' is no number"),
        ({"more": "channel='sms', message_class='marketing'"}, 'needs address="phone"'),
    ],
)
def test_check_finds_what_the_contract_forbids(empty, site, changed, words):
    torture.install(site, "odd", ODD.format_map(FINE | changed))
    answer = empty("plugin", "check", "odd")
    assert any(words in line for line in failed(answer)) if words else not failed(answer), answer
    assert answer.code == (1 if words else 0)


def test_check_warns_of_what_others_will_trip_over(empty, site):
    torture.install(site, "foo", "def later():\n    from rules_engine.store import open_store\n" + torture.ONE.format("foo").replace(
        "'foo.do'", "'email.blast2', example='email.blast2', summary=").replace("summary=,", "summary="))
    answer = empty("plugin", "check", "foo")
    warned = [line for line in answer.out.splitlines() if line.startswith("warn")]
    assert answer.code == 0 and "all hold, 2 warnings" in answer.err, answer
    assert "imports rules_engine.store" in warned[0] and "camp_foo.py:" in warned[0]
    assert "`email` is that of the plugin email" in warned[1]


def test_check_says_which_settings_it_did_without(empty, site):
    torture.install(site, "good", torture.GOOD + """
    def wrong_settings(settings):
        if not settings.get("url"): yield "the setting url is missing"
    """)
    assert "warn  good.send: settings: the setting url is missing; without --settings" in empty("plugin", "check", "good").out
    (empty.folder / "test.toml").write_text('[good]\nurl = "http://127.0.0.1:9"\n')
    assert "the setting url" not in empty("plugin", "check", "good", "--settings", "test.toml").out


def test_check_is_not_drowned_in_what_the_plugin_prints(empty, site):
    torture.install(site, "loud", """
    def send(call):
        for number in range(200): print("chatter", number)
        return Outcome("accepted") if call.contact.get("email") != 0 else 1 / 0
    @hookimpl
    def register_actions():
        yield Action("loud.send", "x", perform=send, timeout=5.0, example="loud.send")
    """)
    answer = empty("plugin", "check", "loud")
    lines = answer.out.splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("FAIL"))
    assert "raised ZeroDivisionError" in lines[place] and lines[place + 1].startswith("      | loud: ")
    assert len(lines) < 15 and "chatter" not in answer.err and len(answer.err.splitlines()) == 1, answer


def test_check_of_what_is_not_there(empty, tmp_path):
    assert empty("plugin", "check", "nobody").code == 2 and empty("plugin", "check", "./nobody").code == 2
    (empty.folder / "no_plugin").mkdir()
    answer = empty("plugin", "check", "./no_plugin")
    assert answer.code == 5 and "declares an entry point" in answer.err
    (empty.folder / "no_plugin" / "pyproject.toml").write_text("[project\n")
    assert "can't be read" in empty("plugin", "check", "no_plugin").err


def test_check_of_a_folder_with_a_setup_cfg(empty):
    (empty.folder / "p" / "src").mkdir(parents=True)
    (empty.folder / "p" / "setup.cfg").write_text("[metadata]\nname = p\n[options.entry_points]\ncamp.plugins =\n    good = my_good\n")
    (empty.folder / "p" / "src" / "my_good.py").write_text("import os\nfrom rules_engine.plugin import *\n" + _dedent(torture.GOOD))
    answer = empty("plugin", "check", "p")
    assert "ok    good.send: a call is answered: accepted: taken" in answer.out, answer


def _dedent(text):
    import textwrap

    return textwrap.dedent(text)


# ── new ──


def test_new_writes_nothing_over_anything(empty):
    assert empty("plugin", "new", "pager", "--dry-run").out.splitlines() and not list(empty.folder.iterdir())
    assert empty("plugin", "new", "pager").code == 0
    before = {path: path.read_bytes() for path in empty.folder.rglob("*") if path.is_file()}
    answer = empty("plugin", "new", "pager")
    assert answer.code == 4 and "is there already" in answer.err
    (empty.folder / "file").write_text("x")
    assert empty("plugin", "new", "pager", "file").code == 4
    assert {path: path.read_bytes() for path in empty.folder.rglob("*") if path.is_file() and path.name != "file"} == before
    assert not any("@" in text.decode().replace("@hookimpl", "").replace("ana@example.com", "") for text in before.values())
    assert (empty.folder / "camp-plugin-pager" / ".gitignore").is_file()


@pytest.mark.parametrize("name", ["Pager", "1x", "a-b", "", "import", "x" * 99, "../x", "é", "email", "web", "plugins", "contact"])
def test_new_refuses_names_that_can_not_be(empty, name):
    answer = empty("plugin", "new", name)
    assert answer.code == 2 and not list(empty.folder.iterdir()) and "Traceback" not in answer.err


def test_new_says_why_a_name_can_not_be(empty):
    assert "it is a word of Python" in empty("plugin", "new", "class").err
    assert "has at most" in empty("plugin", "new", "x" * 200).err and "this one has 200" in empty("plugin", "new", "x" * 200).err
    assert "lower-case letters" in empty("plugin", "new", "Pager").err


# ── what authors do: install, test, check ──


def pip(target: Path, *sources: Path) -> None:
    """Installs into a folder, with the setuptools that is here, else (Python 3.12 brings none) with one from the index."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), *map(str, sources)]
    for more in (["--no-build-isolation", "--no-index"], []):
        done = subprocess.run([*command, *more], capture_output=True, text=True, timeout=120)
        if done.returncode == 0:
            return
    pytest.skip(f"A PLUGIN WAS NOT TESTED AS INSTALLED: pip can't build here: {done.stderr[-300:]}")


def test_the_new_plugin_and_the_example_work_as_installed(empty, tmp_path):
    """Their own tests, `camp plugin check` and `camp test`, with both installed by pip into a folder of their own."""
    assert empty("plugin", "new", "pager").code == 0
    folders = [empty.folder / "camp-plugin-pager", tmp_path / "camp-plugin-matrix"]
    shutil.copytree(ROOT / "examples" / "camp-plugin-matrix", folders[1])
    target = tmp_path / "installed"
    pip(target, *folders)
    environment = {**os.environ, "PYTHONPATH": f"{target}{os.pathsep}{ROOT}", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    for folder in folders:
        for command in (["pytest", "-q", "-p", "no:cacheprovider"], ["rules_engine", "test", "campaigns"]):
            done = subprocess.run([sys.executable, "-m", *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, done.stdout + done.stderr
    for what in ("pager", "matrix", str(folders[1])):
        done = subprocess.run([sys.executable, "-m", "rules_engine", "plugin", "check", what], cwd=tmp_path, env=environment,
                              capture_output=True, text=True, timeout=120)
        assert done.returncode == 0 and "all hold" in done.stderr, done.stdout + done.stderr
