"""Test results as JUnit XML, as CI servers read it. Times are zero: tests run in virtual time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from rules_engine.cli.tests import place


def write(path: Path, results: Sequence[Any], sources: Any) -> None:
    """Writes the file. OSError where it can't be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document(results, sources), encoding="utf-8")


def document(results: Sequence[Any], sources: Any) -> str:
    """One suite for each file."""
    suites: dict[str, list[Any]] = {}
    for result in results:
        suites.setdefault(result.span.path, []).append(result)
    failed = sum(not result.passed for result in results)
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuites tests="{len(results)}" failures="{failed}" errors="0" time="0">',
    ]
    for name, group in suites.items():
        failed = sum(not result.passed for result in group)
        lines.append(
            f'  <testsuite name={_attribute(name)} tests="{len(group)}" failures="{failed}" errors="0" skipped="0" time="0">'
        )
        lines += [line for result in group for line in _case(result, sources)]
        lines.append("  </testsuite>")
    lines.append("</testsuites>")
    return "\n".join(lines) + "\n"


def _case(result: Any, sources: Any) -> list[str]:
    path, line, _ = place(result.span, sources)
    where = f'classname={_attribute(path)} name={_attribute(result.name)} file={_attribute(path)} line="{line}"'
    head = f'    <testcase {where} time="0"'
    if result.passed:
        return [head + "/>"]
    lines = [head + ">"]
    for failure in result.failures:
        path, line, _ = place(failure.span, sources)
        text = "\n".join([f"{path}:{line}: {failure.message}", *failure.notes, *failure.timeline])
        lines.append(f"      <failure message={_attribute(failure.message)}>{escape(_clean(text))}</failure>")
    return [*lines, "    </testcase>"]


def _attribute(text: str) -> str:
    return quoteattr(_clean(text).replace("\n", " "))


def _clean(text: str) -> str:
    """Without the control characters that XML can't hold."""
    return "".join(
        c for c in text if c in "\n\t" or ord(c) >= 32 and not 0xD800 <= ord(c) < 0xE000 and ord(c) not in (0xFFFE, 0xFFFF)
    )
