"""Third-party plugins in child processes: whatever one does, the engine and the other plugins work on, and the operator reads which plugin
and why."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rules_engine import host, isolation, project
from rules_engine.actions import Change
from rules_engine.service import dispatch
from rules_engine.service.dispatch import idempotency
from rules_engine.service.runner import ThreadRunner
from rules_engine.store import open_store
from rules_engine.testing.plugins import make_call
from tests.plugins import torture

OWN = host.installed()


@contextlib.contextmanager
def installed(folder, settings=None):
    """The host with Camp's own plugins and those of a folder, which is on the path."""
    sys.path.insert(0, str(folder))
    loaded = host.load(settings, [*OWN, *host.installed([str(folder)])])
    try:
        yield loaded
    finally:
        loaded.close()
        sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """All that are bad at loading, and a good one, in one folder."""
    folder = tmp_path_factory.mktemp("crowd")
    torture.install(folder, "good", torture.GOOD, "2.5")
    for name, (source, _) in torture.AT_LOAD.items():
        torture.install(folder, name, source)
    with installed(folder) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The one that is bad at being called, and the good one."""
    folder = tmp_path_factory.mktemp("pair")
    torture.install(folder, "good", torture.GOOD)
    torture.install(folder, "bad", torture.callers())
    with installed(folder) as loaded:
        assert loaded.problems == ()
        yield loaded


def run(loaded, action, primary, runner=None):
    call = make_call(action, Path("/nowhere"), primary)
    return (runner or ThreadRunner(1)).run([(loaded.actions[action], call)])[0]


def gone(pid, seconds=3.0):
    """Whether a process has ended, or ends in time."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


# ---------------------------------------------------------------- loading


@pytest.mark.parametrize("name", [name for name, (_, words) in torture.AT_LOAD.items() if words])
def test_a_plugin_that_is_bad_at_loading_costs_only_itself(crowd, name):
    reasons = [problem.reason for problem in crowd.problems if problem.plugin == name]
    assert len(reasons) == 1 and torture.AT_LOAD[name][1] in reasons[0], reasons
    assert reasons[0].isprintable()


def test_all_others_work(crowd):
    assert run(crowd, "good.send", "x").state == "accepted"
    assert crowd.actions["good.mark"].changes("paid", {}) == (Change("set", "plan", "paid"),)
    assert crowd.events["good.done"].fields == {"n": "number"}
    assert set(host.load(None, OWN).actions) <= set(crowd.actions) and crowd.providers["email.send"] == "email"
    assert {problem.plugin for problem in crowd.problems} == {name for name, (_, words) in torture.AT_LOAD.items() if words}
    good = crowd.plugins["good"]
    assert (good.distribution, good.version, good.child, good.api) == ("camp_good", "2.5", True, 1)
    assert not crowd.plugins["email"].child and crowd.plugins["email"].distribution == "camp_rules_engine"


def test_a_campaign_that_needs_it_is_told_which_plugin_failed_and_why(crowd, tmp_path):
    (tmp_path / "a.camp").write_text("EVENT go\nRULE r\n  WHEN go\n    THEN b_segfault.do\nEND\nRULE s\n  WHEN go\n    THEN b_generator.do\nEND\n")
    found = {item.name: (item.message, item.help) for item in project.load_program([tmp_path], crowd).diagnostics if item.severity == "error"}
    assert set(found) == {"missing-plugin"}, found
    texts = [item.message + item.help for item in project.load_program([tmp_path], crowd).diagnostics if item.name == "missing-plugin"]
    assert "plugin b_segfault" in texts[0] and "SIGSEGV" in texts[0]
    assert "plugin b_generator" in texts[1] and "ZeroDivisionError" in texts[1]


def test_an_import_that_hangs_costs_that_plugin_only(tmp_path, monkeypatch):
    monkeypatch.setattr(isolation, "LOAD_SECONDS", 1.5)
    torture.install(tmp_path, "good", torture.GOOD)
    torture.install(tmp_path, "hangs", "time.sleep(60)")
    torture.install(tmp_path, "hangs_too", "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: pass")
    start = time.monotonic()
    with installed(tmp_path) as loaded:
        assert time.monotonic() - start < 8
        assert run(loaded, "good.send", "x").state == "accepted"
        reasons = {problem.plugin: problem.reason for problem in loaded.problems}
    assert set(reasons) == {"hangs", "hangs_too"} and all("no answer within 1.5 s" in reason for reason in reasons.values())


def test_no_process_is_started_without_a_third_party_plugin():
    loaded = host.load(None, OWN)
    assert loaded.pools == {} and loaded.problems == ()


def test_a_plugin_that_is_switched_off_is_not_even_started(tmp_path):
    torture.install(tmp_path, "good", torture.GOOD)
    with installed(tmp_path, {"plugins": {"disabled": ["good"]}}) as loaded:
        assert "good" not in loaded.pools and "good.send" not in loaded.actions


# ---------------------------------------------------------------- calls


@pytest.mark.parametrize("name", torture.AT_CALL)
def test_a_plugin_that_is_bad_at_being_called(pair, name, capsys):
    _, state, words = torture.AT_CALL[name]
    before = run(pair, "good.send", "x").provider_id
    start = time.monotonic()
    outcome = run(pair, "bad.do", name)
    assert time.monotonic() - start < 5
    assert outcome.state == state and any(word in outcome.detail for word in words.split("|")), outcome
    assert len(outcome.detail) <= 1_000 and outcome.detail.isprintable()
    if state == "unknown":
        assert "bad" in outcome.detail or "the plugin answered" in outcome.detail
    assert run(pair, "bad.do", "fine").detail == "fine", "the next call works"
    assert run(pair, "good.send", "x").provider_id == before, "the other plugin's process is not touched"
    assert len(capsys.readouterr().err) < 200_000
    pair.pools["bad"].close()


def test_a_look_up_is_called_with_the_same_care(pair):
    answer = pair.actions["bad.do"].lookup
    assert answer(make_call("bad.do", Path("/x"), "hang")).state == "unknown"
    assert answer(make_call("bad.do", Path("/x"), "fine")).state == "accepted"


def test_a_look_up_that_was_not_made_is_no_proof_that_the_message_never_arrived(tmp_path):
    marker = tmp_path / "second"
    source = f"import pathlib\nassert not pathlib.Path({str(marker)!r}).exists()\n" + torture.ONE.format("once")
    torture.install(tmp_path, "once", source.replace("'Do.', ", "'Do.', lookup=lambda call: Outcome('retry'), "))
    with installed(tmp_path) as loaded:
        action, call = loaded.actions["once.do"], make_call("once.do", tmp_path)
        assert action.lookup(call).state == "retry", "the plugin's own word is one"
        marker.touch()
        loaded.pools["once"].close()
        assert action.lookup(call).state == "unknown" and action.perform(call).state == "retry"


def test_what_it_leaves_behind_dies_with_it(pair):
    run(pair, "bad.do", "fine")
    (leader,) = pair.pools["bad"].pids()
    subprocess.run(["true"], check=True)
    assert run(pair, "bad.do", "leaves").state == "unknown"
    left = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _group(pid) == leader]
    assert all(gone(pid) for pid in left), left


def _group(pid):
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def test_a_process_that_died_before_it_read_the_call_is_replaced_and_the_call_made_once(pair):
    run(pair, "bad.do", "fine")
    for pid in pair.pools["bad"].pids():
        os.kill(pid, signal.SIGKILL)
        assert gone(pid)
    assert run(pair, "bad.do", "fine").state == "accepted"


def test_a_plugin_that_can_not_be_started_again_is_retry_for_nothing_was_handed_over(tmp_path):
    marker = tmp_path / "second"
    torture.install(tmp_path, "once", f"import pathlib\nassert not pathlib.Path({str(marker)!r}).exists()\n" + torture.ONE.format("once"))
    with installed(tmp_path) as loaded:
        assert run(loaded, "once.do", None).state == "accepted"
        marker.touch()
        loaded.pools["once"].close()
        outcome = run(loaded, "once.do", None)
        assert outcome.state == "retry" and "the plugin once declares something else" in outcome.detail
        marker.unlink()
        assert run(loaded, "once.do", None).state == "accepted"


def test_calls_of_one_plugin_run_side_by_side(tmp_path):
    torture.install(tmp_path, "slow", torture.ONE.format("slow").replace("lambda call: ", "lambda call: time.sleep(0.3) or "))
    with installed(tmp_path) as loaded:
        action = loaded.actions["slow.do"]
        work = [(action, make_call(action, tmp_path, key=str(number))) for number in range(4)]
        assert [outcome.state for outcome in ThreadRunner(4).run(work)] == ["accepted"] * 4
        start = time.monotonic()
        ThreadRunner(4).run(work)
        assert time.monotonic() - start < 0.9 and len(loaded.pools["slow"].pids()) == 4


# ---------------------------------------------------------------- changes, in the engine's tick

CHANGES = """
def change(primary, params):
    if primary == "hang": time.sleep(60)
    if primary == "gone": os._exit(3)
    if primary == "none": return None
    if primary == "lie": return (Change("set", "email", "x"),)
    if primary == "op": return (Change("drop", "table", "x"),)
    return (Change("set", "plan", primary), Change("add", "points", 1.5))
@hookimpl
def register_actions():
    yield Action("ch.do", "Do.", Parameter("how"), changes=change, writes=("contact.plan", "contact.points"))
"""


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("hang", "no answer within 0.8 s"),
        ("gone", "the plugin ch ended its process with the exit status 3"),
        ("none", "gave a NoneType that is no tuple of Change"),
        ("lie", "would set email, which its `writes` does not name"),
        ("op", "would drop table"),
    ],
)
def test_an_event_whose_changes_fail_is_set_aside_and_the_next_is_not(tmp_path, monkeypatch, how, words):
    from rules_engine.clock import VirtualClock
    from rules_engine.facts import ContactChange, Event
    from rules_engine.service.loop import Service
    from rules_engine.store.memory import MemoryStore
    from rules_engine.store.port import Arrival

    monkeypatch.setattr(isolation, "CHANGES_SECONDS", 0.8)
    torture.install(tmp_path, "ch", CHANGES)
    (tmp_path / "a.camp").write_text(
        "ATTRIBUTE plan: text\nEVENT go WITH how: text\nRULE r\n  WHEN go\n    THEN ch.do event.how\nEND\n"
    )
    with installed(tmp_path) as loaded:
        found = project.load_program([tmp_path], loaded)
        assert found.program is not None, found.diagnostics
        clock = VirtualClock(10_000)
        store = MemoryStore(clock)
        store.record_events([Arrival(ContactChange("c", "ana", 1, {}))])
        store.record_events([Arrival(Event(f"e{n}", "go", "ana", 2 + n, None, {"how": value})) for n, value in enumerate((how, "paid"))])
        service = Service(store, found.program, loaded, clock)
        service.work()
        (aside,) = store.set_aside()
        assert words in aside.reason and "ch" in aside.reason and "ch.do" in aside.reason, aside.reason
        state = json.loads(store.contacts(["ana"])["ana"].state)
        assert state["a"]["plan"] == "paid"


def test_a_constant_that_the_plugin_refuses_is_no_defect_of_camp(tmp_path):
    torture.install(tmp_path, "ch", CHANGES)
    (tmp_path / "a.camp").write_text('ATTRIBUTE plan: text\nEVENT go\nRULE r\n  WHEN go\n    THEN ch.do "none"\nEND\n')
    with installed(tmp_path) as loaded:
        found = project.load_program([tmp_path], loaded)
        assert found.program is not None, found.diagnostics


def test_changes_that_hang_do_not_hold_up_every_event(tmp_path, monkeypatch):
    monkeypatch.setattr(isolation, "CHANGES_SECONDS", 0.1)
    torture.install(tmp_path, "ch", CHANGES)
    with installed(tmp_path) as loaded:
        changes = loaded.actions["ch.do"].changes
        start = time.monotonic()
        for _ in range(200):
            with pytest.raises(isolation.Failed, match="the plugin ch gave no answer"):
                changes("hang", {})
        assert time.monotonic() - start < 4
        with pytest.raises(isolation.Failed, match="is left alone for 30 s"):
            changes("paid", {})


def test_pure_answers_are_asked_for_once(tmp_path):
    torture.install(tmp_path, "ch", CHANGES.replace("def change(primary, params):", "count = 0\ndef change(primary, params):\n"
                                                    "    global count\n    count += 1\n    if primary == 'n': primary = str(count)"))
    with installed(tmp_path) as loaded:
        changes = loaded.actions["ch.do"].changes
        assert {changes("n", {"a": 1})[0].value for _ in range(5)} == {"1"} and changes("n", {"a": 2})[0].value == "2"


# ---------------------------------------------------------------- what a plugin may know

SPY = """
def send(call):
    fds = {}
    for fd in os.listdir("/proc/self/fd"):
        try: fds[int(fd)] = os.readlink(f"/proc/self/fd/{fd}")
        except OSError: pass
    import json
    pathlib_file = call.project / "spy.json"
    pathlib_file.write_text(json.dumps({"env": dict(os.environ), "fds": fds, "settings": dict(call.settings), "argv": sys.argv,
                                        "group": os.getpgid(0), "pid": os.getpid()}))
    return Outcome("accepted")
def idempotency(settings):
    return "key" if settings.get("safe") else "none"
@hookimpl
def register_actions():
    yield Action("spy.send", "Send.", perform=send, timeout=5.0)
"""


def test_it_inherits_no_secret_of_others_and_no_descriptor(tmp_path, monkeypatch):
    torture.install(tmp_path, "spy", SPY)
    torture.install(tmp_path, "spy_pro", torture.ONE.format("spy_pro"))
    for name, text in {
        "CAMP_SPY_TOKEN": "mine", "CAMP_SPY_PRO_KEY": "another's", "CAMP_EMAIL_PASSWORD": "another's", "CAMP_WEB_SECRET": "another's",
        "AWS_SECRET_ACCESS_KEY": "another's", "LC_ALL": "C.UTF-8", "TZ": "UTC",
    }.items():
        monkeypatch.setenv(name, text)
    database = open_store(tmp_path / "camp.db")
    careless = os.open(tmp_path / "inheritable", os.O_CREAT)
    os.set_inheritable(careless, True)
    with database.run_lock(), installed(tmp_path) as loaded:
        action = loaded.actions["spy.send"]
        assert action.perform(make_call(action, tmp_path, settings={"token": "mine"})).state == "accepted"
    os.close(careless)
    database.close()
    seen = json.loads((tmp_path / "spy.json").read_text())
    assert "another's" not in json.dumps(seen)
    assert {name for name in seen["env"] if name.startswith("CAMP_")} == {"CAMP_SPY_TOKEN"}
    assert set(seen["env"]) <= {*isolation.ENVIRONMENT, "CAMP_SPY_TOKEN"} | {n for n in seen["env"] if n.startswith(isolation.PREFIXES)}
    links = [link for link in seen["fds"].values() if not link.startswith(("pipe:", "/dev/null", "/proc/"))]
    assert links == [], links
    assert seen["group"] == seen["pid"] != os.getpgid(0)


def test_the_settings_of_two_plugins_with_like_names_do_not_mix(tmp_path, monkeypatch):
    from rules_engine.cli.settings import Settings

    monkeypatch.setenv("CAMP_SPY_PRO_KEY", "secret")
    monkeypatch.setenv("CAMP_SPY_TOKEN", "mine")
    tables = Settings(start=tmp_path).tables(["spy", "spy_pro"])
    assert tables == {"spy": {"token": "mine"}, "spy_pro": {"key": "secret"}}


def test_what_it_prints_goes_to_stderr_with_its_name(tmp_path, capfd):
    torture.install(tmp_path, "loud", "print('imported')\n" + torture.ONE.format("loud").replace(
        "lambda call: ", "lambda call: print('one\\x1b[31m\\ntwo') or sys.stderr.write('half') and None or "))
    with installed(tmp_path) as loaded:
        assert run(loaded, "loud.do", None).state == "accepted"
    captured = capfd.readouterr()
    assert captured.out == "" and captured.err.splitlines() == ["loud: imported", "loud: one [31m", "loud: two", "loud: half"]


def test_a_module_says_itself_what_its_settings_allow_and_is_asked_once(tmp_path):
    torture.install(tmp_path, "spy", SPY.replace("def idempotency(settings):", "def idempotency(settings):\n    print('asked')"))
    with installed(tmp_path) as loaded:
        action = loaded.actions["spy.send"]
        assert [idempotency(action, {"safe": True}) for _ in range(3)] == ["key"] * 3 and idempotency(action, {}) == "none"
        loaded.pools["spy"].close()


@pytest.mark.parametrize(("body", "words"), [("raise ValueError('nope')", "raised ValueError: nope"), ("return 'sometimes'", "answered 'sometimes'")])
def test_a_module_that_can_not_say_what_its_settings_allow_is_named_once(tmp_path, caplog, capfd, body, words):
    dispatch._say_once.cache_clear()
    torture.install(tmp_path, "spy", SPY.replace('return "key" if settings.get("safe") else "none"', body))
    with installed(tmp_path) as loaded, caplog.at_level("ERROR"):
        assert [idempotency(loaded.actions["spy.send"], {}) for _ in range(6)] == ["none"] * 6
    (record,) = caplog.records
    assert words in record.getMessage() and "the plugin of spy" in record.getMessage() and record.exc_info is None
    assert capfd.readouterr().err.count("Traceback") == (1 if "raise" in body else 0), "asked again, though it had said that it can't tell"


def test_a_change_that_is_named_as_in_writes_is_told_apart(tmp_path):
    torture.install(tmp_path, "chg", "@hookimpl\ndef register_actions():\n    yield Action('chg.ok', 'x', writes=('contact.city',), "
                    "changes=lambda p, q: (Change('set', 'contact.city', 1),))\n")  # fmt: skip
    with installed(tmp_path) as loaded, pytest.raises(isolation.Failed, match=r"a Change names it without `contact\.`: 'city'"):
        loaded.actions["chg.ok"].changes(None, {})


def test_a_name_that_no_variable_can_have_is_refused(tmp_path):
    info = tmp_path / "camp_big-1.0.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text("[camp.plugins]\nBig-Name = camp_big\n")
    with installed(tmp_path) as loaded:
        (problem,) = loaded.problems
        assert problem.plugin == "Big-Name" and "lower-case letters, digits and _" in problem.reason and not loaded.pools


def test_a_secret_that_it_tells_is_hidden(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("CAMP_TELLS_API_KEY", "from-the-environment")
    torture.install(tmp_path, "tells", torture.ONE.format("tells").replace(
        "lambda call: Outcome('accepted')", "lambda call: print('now', dict(call.settings), os.environ['CAMP_TELLS_API_KEY']) or "
        "call.primary and 1 / 0 or Outcome('accepted', call.settings['token'])").replace("perform=", "primary=Parameter('x'), perform="))
    with installed(tmp_path) as loaded:
        action = loaded.actions["tells.do"]
        outcome = action.perform(make_call(action, tmp_path, settings={"token": "hunter2", "user": "ana"}))
    assert outcome.detail == "(hidden)"
    told = capfd.readouterr().err
    assert "hunter2" not in told and "from-the-environment" not in told and "'user': 'ana'" in told and "(hidden)" in told


def test_a_service_manager_that_ends_all_processes_does_not_break_a_hand_over(tmp_path):
    torture.install(tmp_path, "slow", torture.ONE.format("slow").replace("lambda call: ", "lambda call: time.sleep(0.4) or "))
    with installed(tmp_path) as loaded:
        (pid,) = loaded.pools["slow"].pids()
        threading.Timer(0.15, os.kill, (pid, signal.SIGTERM)).start()
        assert run(loaded, "slow.do", None).state == "accepted" and loaded.pools["slow"].pids() == [pid]


@pytest.mark.parametrize(("name", "words"), [("gone", "exit status 3"), ("leaves", "exit status 0"), ("hang", "no answer")])
def test_it_works_where_the_system_has_no_handles_of_processes(tmp_path, monkeypatch, name, words):
    monkeypatch.setattr(isolation, "_pidfd", lambda pid: -1)
    torture.install(tmp_path, "bad", torture.callers())
    with installed(tmp_path) as loaded:
        outcome = run(loaded, "bad.do", name)
        assert outcome.state == "unknown" and words in outcome.detail
        assert run(loaded, "bad.do", "fine").state == "accepted"


# ---------------------------------------------------------------- the end


def test_a_plugin_ends_with_camp_even_while_it_hangs(tmp_path):
    torture.install(tmp_path, "bad", torture.callers().replace("timeout=0.8", "timeout=60"))
    script = (
        "import os, sys, threading\nsys.path.insert(0, sys.argv[1])\nfrom pathlib import Path\nfrom rules_engine import host\n"
        "from rules_engine.testing.plugins import make_call\nloaded = host.load(None, host.installed([sys.argv[1]]))\n"
        "print(*loaded.pools['bad'].pids(), flush=True)\n"
        "loaded.actions['bad.do'].perform(make_call('bad.do', Path('/x'), 'hang'))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    pid = int(process.stdout.readline())
    time.sleep(0.2)
    process.kill()
    process.wait()
    process.stdout.close()
    assert gone(pid)


def test_the_whole_crowd_installed_does_not_stop_the_commands(crowd, tmp_path):
    """`camp check`, `camp plugin list` and `camp run --once` as an operator runs them, with every bad plugin on the path."""
    folder = Path(next(entry for entry in sys.path if "crowd" in entry))
    environment = {**os.environ, "PYTHONPATH": str(folder), "XDG_CONFIG_HOME": str(tmp_path)}

    def camp(*arguments, cwd=tmp_path):
        return subprocess.run([sys.executable, "-m", "rules_engine", *arguments], cwd=cwd, env=environment, capture_output=True, text=True,
                              timeout=60)

    assert camp("init", "shop").returncode == 0
    shop = tmp_path / "shop"
    done = camp("check", cwd=shop)
    assert done.returncode == 0 and "Traceback" not in done.stdout, done
    listed = camp("plugin", "list", cwd=shop)
    assert listed.returncode == 5 and "good" in listed.stdout
    for name, (_, words) in torture.AT_LOAD.items():
        assert not words or (f"plugin {name}: " in listed.stderr and words in listed.stderr), name
    assert camp("contact", "import", "samples/contacts.jsonl", cwd=shop).returncode == 0
    ran = camp("run", "--once", cwd=shop)
    assert ran.returncode == 0 and list(shop.glob("outbox/*.eml")), ran


def test_a_service_with_a_plugin_that_hangs_and_dies_hands_over_all_else(tmp_path):
    """`camp run --once` on a database: one `unknown` for each call that can't be known, with its reason; everything else has left."""
    site, shop = tmp_path / "site", tmp_path / "shop"
    torture.install(site, "bad", torture.callers())
    torture.install(site, "good", torture.GOOD)
    shop.mkdir()
    (shop / "camp.toml").write_text('database = "camp.db"\n')
    (shop / "a.camp").write_text(
        "EVENT go WITH how: text\nRULE r\n  WHEN go\n    THEN bad.do event.how\nEND\nRULE s\n  WHEN go\n    THEN good.send event.how\nEND\n"
    )
    words = ["hang", "fine", "segfault", "gone", "fine", "raise", "fine"]
    facts = [{"id": f"e{n}", "event": "go", "contact": f"c{n}", "at": "2026-03-02T09:00:00Z", "data": {"how": how}} for n, how in enumerate(words)]
    (shop / "events.jsonl").write_text("".join(json.dumps(fact) + "\n" for fact in facts))
    environment = {**os.environ, "PYTHONPATH": str(site), "XDG_CONFIG_HOME": str(tmp_path)}

    def camp(*arguments):
        return subprocess.run([sys.executable, "-m", "rules_engine", *arguments], cwd=shop, env=environment, capture_output=True, text=True,
                              timeout=60)

    assert camp("event", "import", "events.jsonl").returncode == 0
    ran = camp("run", "--once")
    assert ran.returncode == 6 and "Traceback" not in ran.stdout, ran
    rows = [json.loads(line) for line in camp("outbox", "list", "--json").stdout.splitlines()]
    found = {(row["action"], row["contact"]): (row["state"], row["detail"]) for row in rows}
    assert len(found) == 14
    for number, how in enumerate(words):
        state, detail = found["bad.do", f"c{number}"]
        assert found["good.send", f"c{number}"][0] == "accepted"
        assert state == torture.AT_CALL.get(how, ("", "accepted"))[1] and (how == "fine" or "plugin bad" in detail), (how, state, detail)
