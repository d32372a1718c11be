"""The torture kit: bad plugins as small distributions that are really there, with metadata, entry point and module."""

from __future__ import annotations

import textwrap
from pathlib import Path

HEAD = "import ctypes, os, signal, subprocess, sys, threading, time\nfrom rules_engine.plugin import *\n"


def install(folder: Path, name: str, source: str, version: str = "1.0", head: str = HEAD) -> None:
    """Puts the distribution camp-NAME with the plugin NAME into a folder of the path."""
    info = folder / f"camp_{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (folder / f"camp_{name}.py").write_text(head + textwrap.dedent(source))
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: camp-{name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[camp.plugins]\n{name} = camp_{name}\n")


GOOD = """
    def send(call):
        return Outcome("accepted", "taken", str(os.getpid()))
    @hookimpl
    def register_actions():
        yield Action("good.send", "Send.", Parameter("text"), perform=send, timeout=5.0, example='good.send "x"')
        yield Action("good.mark", "Mark.", Parameter("text"), changes=lambda p, q: (Change("set", "plan", p),), writes=("contact.plan",))
    @hookimpl
    def register_events():
        yield EventType("good.done", "It is done.", {"n": "number"})
"""

ONE = "@hookimpl\ndef register_actions():\n    yield Action('{0}.do', 'Do.', perform=lambda call: Outcome('accepted'))\n"

# What it does when it is loaded, and words of the reason.
AT_LOAD = {
    "b_import": ("import no_such_module_at_all", "can't be imported: ModuleNotFoundError"),
    "b_syntax": ("def (", "SyntaxError"),
    "b_signature": ("@hookimpl\ndef register_actions(config): return ()", "wrong signature"),
    "b_misspelt": ("@hookimpl\ndef register_action(): return ()", "'register_action'"),
    "b_newer": ("CAMP_API = 99\n" + ONE.format("b_newer"), "needs version 99 of the plugin API"),
    "b_raises": ("raise ValueError('no luck')", "ValueError: no luck"),
    "b_exits": ("sys.exit(3)", "SystemExit: 3"),
    "b_gone": ("os._exit(7)", "ended its process with the exit status 7"),
    "b_segfault": ("ctypes.string_at(0)", "lost its process to SIGSEGV"),
    "b_killed": ("os.kill(os.getpid(), signal.SIGKILL)", "lost its process to SIGKILL"),
    "b_flood": ("os.write(1, b'flood\\n' * 1_000_000); os.write(2, b'x' * 3_000_000)\n" + ONE.format("b_flood"), ""),
    "b_line": ("os.closerange(3, 1024)", "ended its process with the exit status 1"),
    "b_memory": ("hog = bytearray(3_000_000_000)", "MemoryError"),
    "b_generator": (ONE.format("b_generator") + "    1 / 0\n", "ZeroDivisionError"),
    "b_endless": ("@hookimpl\ndef register_events():\n  while True: yield EventType('a.b', 'x')", "more than 1000 records"),
    "b_lie": ("@hookimpl\ndef register_actions():\n  yield 'an action'", "is no Action"),
    "b_record": ("@hookimpl\ndef register_actions():\n  yield Action('b_record.do', 'x', perform=print, timeout=-1)", "timeout must be"),
    "z_taken": ("@hookimpl\ndef register_actions():\n  yield Action('good.send', 'x', perform=print)", "provided by the plugin 'good'"),
    "b_theft": ("@hookimpl\ndef register_actions():\n  yield Action('email.send', 'x', perform=print)", "provided by the plugin 'email'"),
    "web": (ONE.format("web"), "one of Camp's own settings"),
    "email": (ONE.format("email2"), "the name is taken by the plugin of camp_rules_engine"),
}

# What it does when it is called, the state that is known then, and words of the detail.
AT_CALL = {
    "hang": ("time.sleep(60)", "unknown", "gave no answer within 0.8 s"),
    "spin": ("while True: pass", "unknown", "gave no answer within 0.8 s"),
    "raise": ("raise ValueError('no luck')", "unknown", "raised ValueError: no luck"),
    "exit": ("sys.exit(3)", "unknown", "raised SystemExit: 3"),
    "gone": ("os._exit(3)", "unknown", "ended its process with the exit status 3"),
    "segfault": ("ctypes.string_at(0)", "unknown", "lost its process to SIGSEGV"),
    # A job in the background is born with SIGINT ignored; and the signal may reach another thread, so nothing wakes a long sleep.
    "interrupt": (
        "signal.signal(signal.SIGINT, signal.default_int_handler); os.kill(os.getpid(), signal.SIGINT); [time.sleep(0.02) for _ in range(30)]",
        "unknown",
        "raised KeyboardInterrupt",
    ),
    "nothing": ("return None", "unknown", "answered NoneType, not Outcome"),
    "tuple": ("return ('accepted', '', '', None)", "unknown", "answered tuple, not Outcome"),
    "state": ("return Outcome('delivered')", "unknown", "the plugin answered the state delivered"),
    "odd": ("return Outcome('accepted', object(), 42, 'soon')", "accepted", "<object object"),
    "huge": ("return Outcome('failed', 'x' * 50_000_000)", "failed", "xxx"),
    "memory": ("hog = bytearray(3_000_000_000)", "unknown", "MemoryError"),
    "prints": ("sys.stdout.write('flood\\n' * 2_000_000); return Outcome('accepted', 'printed')", "accepted", "printed"),
    "pipe": ("fd = line(); os.write(fd, b'x' * 5_000_000)", "unknown", "bytes, so its process was killed|nonsense"),
    "closes": ("os.closerange(0, 1024); return Outcome('accepted')", "unknown", "closed its line|exit status 1"),
    "closes 1": ("os.close(1); return Outcome('accepted', 'fine')", "accepted", "fine"),
    "fork": ("os.fork(); return Outcome('accepted', 'both answer')", "accepted", "both answer"),
    "leaves": ("subprocess.Popen(['sleep', '60']); os._exit(0)", "unknown", "exit status 0"),
    "cwd": ("os.chdir('/'); signal.signal(signal.SIGTERM, signal.SIG_IGN); return Outcome('accepted', 'moved')", "accepted", "moved"),
    "threads": (
        "[threading.Thread(target=time.sleep, args=(60,)).start() for _ in range(20)]; return Outcome('accepted', 'busy')", "accepted", "busy"),
    "twice": ("answer(0, Outcome('failed', 'early')); answer(0, Outcome('failed', 'twice')); return Outcome('accepted', 'first')",
              "failed", "early"),
    "late": ("answer(-1, Outcome('failed', 'late')); return Outcome('accepted', 'mine')", "accepted", "mine"),
}


def callers() -> str:
    """The plugin `bad`: `bad.do "hang"` hangs, and so on. `line` finds the way to Camp that is none of a plugin's business."""
    lines = [
        "def line():",
        "    pipes = [fd for fd in range(200, 260) if os.path.exists(f'/proc/self/fd/{fd}')]",
        "    return pipes[1]",
        "count = 1",
        "def answer(late, outcome):",
        "    from rules_engine import wire",
        "    os.write(line(), wire.frame([count + late, 'done', list(outcome)]))",
        "def do(call):",
        "    global count",
        "    count += 1",
        "    return CASES[call.primary](call)",
    ]
    names = []
    for number, (name, (source, _, _)) in enumerate(AT_CALL.items()):
        lines += [f"def case_{number}(call):", *(f"    {part}" for part in source.split("\n"))]
        names.append(f"{name!r}: case_{number}")
    lines += [
        "CASES = {" + ", ".join(names) + ", 'fine': lambda call: Outcome('accepted', 'fine'), 'cwd?': lambda call: Outcome('accepted', os.getcwd())}",
        "@hookimpl",
        "def register_actions():",
        "    yield Action('bad.do', 'Do.', Parameter('how'), perform=do, lookup=do, timeout=0.8)",
    ]
    return "\n".join(lines) + "\n"
