"""How everything here is measured: CPU and memory of this process, children of their own, tables in Markdown."""

from __future__ import annotations

import gc
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOT_BUILT = "not built yet"
PACKAGES = ("camp-rules-engine", "clipspy", "durable_rules", "zen-engine", "rule-engine", "experta", "peewee", "lark")


@dataclass(frozen=True, slots=True)
class Timing:
    """What one call cost."""

    cpu: float
    wall: float


def timed(function: Callable[[], object]) -> tuple[object, Timing]:
    """Call a function from the same garbage collector state for everyone: all that exists is frozen, collection is on."""
    gc.collect()
    gc.freeze()
    wall, cpu = time.perf_counter(), time.process_time()
    result = function()
    timing = Timing(time.process_time() - cpu, time.perf_counter() - wall)
    gc.unfreeze()
    return result, timing


def rss() -> int:
    """The memory that this process occupies now, in bytes."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def digest(items: Iterable[tuple]) -> dict:
    """A multiset in short: how many items, and a hash that doesn't depend on their order."""
    counts = Counter(items)
    text = json.dumps(sorted((*key, number) for key, number in counts.items()))
    return {"count": sum(counts.values()), "hash": hashlib.sha256(text.encode()).hexdigest()[:16]}


def child(module: str, *arguments: object) -> dict:
    """Run `python -m module --child arguments…` and read the JSON that it prints last."""
    command = [sys.executable, "-m", module, "--child", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"missing": f"failed: {last[:200]}"}
    return json.loads(done.stdout.strip().splitlines()[-1])


def camp_command() -> list[str]:
    """How to call `camp`: the script beside this Python if there is one, else the module."""
    script = shutil.which("camp", path=str(Path(sys.executable).parent))
    return [script] if script else [sys.executable, "-m", "rules_engine"]


def camp_missing() -> str:
    """Nothing if `camp --help` answers, else that it isn't built yet."""
    done = subprocess.run([*camp_command(), "--help"], cwd=ROOT, capture_output=True, check=False)
    return NOT_BUILT if done.returncode else ""


def median_wall(command: Sequence[str], times: int) -> tuple[float, subprocess.CompletedProcess]:
    """The median seconds that a command takes, start of the interpreter included, and its last result."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), done


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; all columns but the first are aligned right."""
    lines = ["| " + " | ".join(header) + " |", "|---" + "|---:" * (len(header) - 1) + "|"]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def figure(number: float) -> str:
    """A number with the two or three digits that mean something."""
    if number >= 100:
        return f"{number:,.0f}"
    return f"{number:.1f}" if number >= 10 else f"{number:.2f}"


def machine() -> str:
    """One line about the machine, the interpreter and the versions measured."""
    cpu = platform.machine()
    for line in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    versions = []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{name} absent")
    kernel = f"{platform.system()} {platform.release()}"
    return f"{cpu}, {os.cpu_count()} cores, {kernel}, Python {platform.python_version()}; {', '.join(versions)}"
