"""The torture kit of the loader: whatever one plugin does, the others work and the reason is said."""

import subprocess
import sys
import textwrap
import time

import pytest

from rules_engine import host
from rules_engine.actions import Action, Change, EventType, Parameter

GOOD = """
    from rules_engine.plugin import *
    @hookimpl
    def register_actions():
        yield Action("good.do", "Does good.", changes=lambda primary, params: ())
    @hookimpl
    def register_events():
        yield EventType("good.done", "It is done.")
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Loads plugins given as {name: source}; a good one, `good`, is always among them."""
    monkeypatch.syspath_prepend(str(tmp_path))
    names = []

    def run(settings=None, **sources):
        points = []
        for name, source in {"good": GOOD, **sources}.items():
            module = f"torture_{abs(hash(tmp_path))}_{name}"
            (tmp_path / f"{module}.py").write_text(textwrap.dedent(source))
            names.append(module)
            points.append(host.Source(name, module, "torture"))
        return host.load(settings, points, isolate=False)

    yield run
    for name in names:
        sys.modules.pop(name, None)


def only_problem(loaded):
    """The one problem, after making sure that the good plugin has not suffered."""
    assert set(loaded.actions) >= {"good.do"} and set(loaded.events) >= {"good.done"}
    assert len(loaded.problems) == 1, loaded.problems
    problem = loaded.problems[0]
    assert "\n" not in problem.reason and problem.reason[:1].islower()
    return problem


HEAD = "from rules_engine.plugin import *\n"

BAD = {
    "import error": ("import no_such_module_at_all", "ModuleNotFoundError"),
    "syntax error": ("def (", "SyntaxError"),
    "raises at import": ("1 / 0", "ZeroDivisionError"),
    "exits at import": ("import sys; sys.exit(3)", "SystemExit"),
    "raises something odd": ("class E(BaseException): pass\nraise E('x')", "E: x"),
    "exception without words": ("class E(Exception):\n  def __str__(self): raise ValueError\nraise E()", "E"),
    "no hooks": ("x = 1", "registers nothing"),
    "forgotten decorator": (HEAD + "def register_actions(): yield 1", "lacks the decorator @hookimpl"),
    "wrong signature": (HEAD + "@hookimpl\ndef register_actions(config): return ()", "wrong signature"),
    "misspelt hook": (HEAD + "@hookimpl\ndef register_action(): return ()", "'register_action'"),
    "hook wrapper": (HEAD + "@hookimpl(wrapper=True)\ndef register_actions():\n  return (yield)", "wrapper"),
    "old hook wrapper": (HEAD + "@hookimpl(hookwrapper=True)\ndef register_actions():\n  yield", "wrapper"),
    "newer API": ("CAMP_API = 2\n" + GOOD.replace("good.", "new.").replace("    ", "", 0), "version 2 of the plugin API"),
    "odd API": ("CAMP_API = 'two'", "CAMP_API must be a whole number"),
    "not iterable": (HEAD + "@hookimpl\ndef register_actions(): return 7", "TypeError"),
    "endless": (HEAD + "@hookimpl\ndef register_events():\n  while True: yield EventType('a.b', 'x')", "more than 1000 records"),
    "exits in the hook": (HEAD + "@hookimpl\ndef register_events(): raise SystemExit", "SystemExit"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_plugin_costs_only_itself(load, name):
    source, words = BAD[name]
    source = "\n".join(line[4:] if name == "newer API" and line.startswith("    ") else line for line in source.split("\n"))
    loaded = load(bad=source)
    problem = only_problem(loaded)
    assert problem.plugin == "bad" and words in problem.reason
    assert set(loaded.providers.values()) == {"good"}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_plugin_leaves_no_trace_for_those_after_it(load, name):
    """`aaa` comes before `good`: a plugin that pluggy leaves registered would fail the next check_pending()."""
    source, _ = BAD[name]
    source = "\n".join(line[4:] if name == "newer API" and line.startswith("    ") else line for line in source.split("\n"))
    assert only_problem(load(aaa=source)).plugin == "aaa"


def test_a_generator_that_fails_half_way_takes_its_names_with_it(load):
    loaded = load(
        half=HEAD + "@hookimpl\ndef register_actions():\n  yield Action('half.one', 'One.', changes=lambda p, q: ())\n  1 / 0\n"
    )
    problem = only_problem(loaded)
    assert problem.names_lost == ("half.one",) and "ZeroDivisionError" in problem.reason
    assert loaded.why_missing("half.one") is problem


def test_why_missing_names_the_failed_plugin_by_its_namespace(load):
    loaded = load(pager="import no_such_module_at_all")
    assert loaded.why_missing("pager.send").plugin == "pager"
    assert loaded.why_missing("good.do") is None and loaded.why_missing("other.x") is None


def test_items_of_a_wrong_type_cost_only_themselves(load):
    loaded = load(
        odd=HEAD + "@hookimpl\ndef register_actions():\n  yield 'no'\n  yield EventType('odd.e', 'x')\n"
        "  yield Action('odd.fine', 'Fine.', changes=lambda p, q: ())\n"
    )
    assert len(loaded.problems) == 2 and "odd.fine" in loaded.actions and "odd.e" not in loaded.events
    assert "'no', which is no Action" in loaded.problems[0].reason


def test_a_taken_name_stays_with_the_first_and_both_are_named(load):
    loaded = load(zeta=GOOD.replace("good.done", "zeta.done"))
    problem = only_problem(loaded)
    assert (
        problem.plugin == "zeta"
        and "'good'" in problem.reason
        and "'zeta'" in problem.reason
        and problem.names_lost == ("good.do",)
    )
    assert loaded.providers == {"good.do": "good", "good.done": "good", "zeta.done": "zeta"}


def test_disabling_the_owner_gives_the_name_to_the_other(load):
    loaded = load({"plugins": {"disabled": ["good"]}}, zeta=GOOD)
    assert loaded.problems == () and loaded.providers == {"good.do": "zeta", "good.done": "zeta"}


def test_a_name_given_twice_by_one_plugin(load):
    loaded = load(
        twice=HEAD + "@hookimpl\ndef register_events():\n  yield EventType('t.e', 'x')\n  yield EventType('t.e', 'y')\n"
    )
    assert "twice" in only_problem(loaded).reason and loaded.events["t.e"].summary == "x"


def test_an_action_and_an_event_may_not_share_a_name(load):
    loaded = load(zeta=HEAD + "@hookimpl\ndef register_events(): yield EventType('good.do', 'x')")
    assert "good.do" not in loaded.events and only_problem(loaded).names_lost == ("good.do",)


def test_one_module_under_two_names(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "torture_twin.py").write_text(textwrap.dedent(GOOD))
    loaded = host.load(None, [host.Source("b", "torture_twin"), host.Source("a", "torture_twin")], isolate=False)
    assert loaded.providers["good.do"] == "a" and "already loaded" in loaded.problems[0].reason


def test_what_a_plugin_prints_at_import_stays_off_stdout(load, capsys):
    load(loud="print('hello')\n" + textwrap.dedent(GOOD).replace("good.", "loud."))
    captured = capsys.readouterr()
    assert captured.out == "" and "hello" in captured.err


def test_an_object_with_hooks_is_a_plugin(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "torture_object.py").write_text(
        HEAD + "class P:\n  @hookimpl\n  def register_events(self): yield EventType('p.e', 'x')\nplugin = P()\n"
    )
    loaded = host.load(
        None,
        [host.Source("p", "torture_object:plugin"), host.Source("q", "torture_object:P"), host.Source("r", "torture_object:no")],
        isolate=False,
    )
    assert set(loaded.events) == {"p.e"}
    assert [problem.plugin for problem in loaded.problems] == ["q", "r"]


def nothing(primary, params):
    return ()


def action(**fields):
    return Action(**{"name": "a.b", "summary": "x", "changes": nothing, **fields})


@pytest.mark.parametrize(
    "record, words",
    [
        (action(perform=nothing), "both"),
        (action(changes=None), "neither"),
        (action(changes=5), "not a function"),
        (action(name="ab"), "namespace.verb"),
        (action(name="A.b"), "namespace.verb"),
        (action(name="a.b\n"), "namespace.verb"),
        (action(name=None), "namespace.verb"),
        (action(name="a." + "b" * 200), "longer"),
        (action(summary=" "), "summary"),
        (action(summary="a\nb"), "summary"),
        (action(extra="all"), "extra"),
        (action(extra="template"), "primary of kind"),
        (action(extra="event", primary=Parameter("x", "text")), "primary of kind"),
        (action(parameters=[Parameter("x")]), "tuple"),
        (action(parameters=(Parameter("x"), Parameter("x"))), "twice"),
        (action(parameters=("x",)), "no Parameter"),
        (action(parameters=(Parameter("x", "string"),)), "'string' is unknown"),
        (action(parameters=(Parameter("X"),)), "lower-case"),
        (action(parameters=(Parameter("x", "choice"),)), "choices"),
        (action(parameters=(Parameter("x", "text", choices=("a",)),)), "choices"),
        (action(parameters=(Parameter("x", "choice", default="c", choices=("a", "b")),)), "none of its choices"),
        (action(message_class="spam"), "message_class"),
        (action(message_class="marketing"), "needs a channel"),
        (action(channel="E mail"), "channel"),
        (action(address=5), "address"),
        (action(writes=("points",)), "no fact"),
        (action(writes=["tag"]), "tuple"),
        (action(changes=None, perform=nothing, writes=("tag",)), "can't write facts"),
        (action(idempotency="yes"), "idempotency"),
        (action(window=-1), "window"),
        (action(window=float("nan")), "window"),
        (action(timeout=0), "timeout"),
        (action(timeout="5"), "timeout"),
        (action(example=None), "example"),
        (EventType("e", "x"), "namespace.verb"),
        (EventType("a.e", ""), "summary"),
        (EventType("a.e", "x", {"y": "string"}), "'string' is unknown"),
        (EventType("a.e", "x", {"Y": "text"}), "lower-case"),
        (EventType("a.e", "x", [1]), "map names"),
        (EventType("a.e", "x", subject=None), "subject"),
        (EventType("a.e", "x", changes=("no",)), "no Change"),
        (EventType("a.e", "x", changes=(Change("emit", "x"),)), "'emit'"),
        (EventType("a.e", "x", changes=(Change("set", ""),)), "name of a fact"),
        (EventType("a.e", "x", changes=[1]), "tuple"),
        (EventType("a.e", "x", changes=(Change("set_if", "x", 5),)), "set_if needs"),
        (EventType("a.e", "x", changes=(Change("set_if", "x", {"field": "k", "equals": 1, "value": 2}),)), "does not have"),
    ],
)
def test_invalid_records_are_refused_with_a_reason(record, words):
    reason = host.check_action(record) if isinstance(record, Action) else host.check_event(record)
    assert words in reason


def test_an_invalid_record_costs_only_itself(load):
    loaded = load(
        some=HEAD + "@hookimpl\ndef register_events():\n  yield EventType('bad', 'x')\n  yield EventType('some.fine', 'x')\n"
    )
    problem = only_problem(loaded)
    assert "some.fine" in loaded.events and problem.names_lost == ("bad",) and "'bad' is invalid" in problem.reason


def test_a_record_that_can_not_even_be_looked_at(load):
    loaded = load(
        cursed=HEAD
        + "class C:\n  def __eq__(self, o): raise ValueError\n  def __repr__(self): raise ValueError\n  __hash__ = None\n"
        "@hookimpl\ndef register_actions():\n  yield Action('c.d', 'x', changes=lambda p, q: (), extra=C())\n  yield C()\n"
    )
    assert len(loaded.problems) == 2 and "good.do" in loaded.actions


def test_installed_reads_the_same_as_importlib_metadata():
    from importlib.metadata import entry_points

    ours = sorted((point.name, point.value) for point in host.installed())
    assert ours == sorted((point.name, point.value) for point in entry_points(group=host.GROUP)) and len(ours) >= 12


def test_installed_takes_the_first_distribution_and_survives_rubbish(tmp_path):
    def dist(folder, name, text):
        (tmp_path / folder / name).mkdir(parents=True)
        (tmp_path / folder / name / "entry_points.txt").write_bytes(text)

    dist(
        "one",
        "my_Dist-1.0.dist-info",
        b"[console_scripts]\nx = y:z\n\n[camp.plugins]\n# no\na = mod_a\nb = mod_b:thing [extra]\n[other]\nc = d\n",
    )
    dist("two", "my-dist-2.0.dist-info", b"[camp.plugins]\na = shadowed\n")
    dist("two", "broken-1.dist-info", b"\xff\xfe[camp.plugins]\n=\n")
    found = host.installed([str(tmp_path / "one"), str(tmp_path / "two"), str(tmp_path / "missing")])
    assert [(point.name, point.value) for point in found] == [("a", "mod_a"), ("b", "mod_b:thing")]


def test_the_first_party_plugins_import_nothing_heavy():
    script = (
        "import sys\nfrom rules_engine import host\nloaded = host.load()\nassert not loaded.problems, loaded.problems\n"
        "print([name for name in ('jinja2', 'smtplib', 'ssl', 'email', 'http', 'http.client', 'urllib.request', "
        "'importlib.metadata', 'json', 'socket', 'hashlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_loading_again_is_quick():
    host.load()
    start = time.perf_counter()
    host.load()
    assert time.perf_counter() - start < 0.25  # about 4 ms; the bound only catches a blunder


def test_no_plugin_can_have_the_name_of_a_setting_of_camp():
    from rules_engine.cli.settings import DEFAULTS, TABLES
    from rules_engine.model.project import SETTINGS

    assert {*DEFAULTS, *SETTINGS, *TABLES} <= set(host.RESERVED)
