"""A small project on disk and the installed plugins, for all tests of the checks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rules_engine import host as hosts
from rules_engine.diagnostics import Diagnostic
from rules_engine.model.checks import check
from rules_engine.model.project import Project
from rules_engine.syntax.read import read

TEMPLATES = {
    "welcome.txt": "Subject: Welcome\n\nHello {{ contact.first_name | default('there') }}, your code is {{ code }}.\n",
    "named.txt": "Subject: Hello\n\nHello {{ contact.first_name }}.\n",
    "plain.txt": "Hello\n",
    "broken.txt": "Subject: Oh\n\nHello {{ contact.frist_name }} {% if %}\n",
    "cart.html": "Subject: Your cart\n\n<p>{{ event.total }} {{ contact.frist_name }}</p>\n",
}


@pytest.fixture(scope="session")
def host() -> hosts.Host:
    return hosts.load()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("project")
    (place / "templates").mkdir()
    for name, text in TEMPLATES.items():
        (place / "templates" / name).write_text(text, encoding="utf-8")
    return place


@pytest.fixture(scope="session")
def problems(host: hosts.Host, folder: Path) -> Callable[..., list[Diagnostic]]:
    """What is wrong with one text, or with several files; `project`: with a camp.toml (else it is a lone file)."""

    def run(text: str, *others: str, project: bool = False) -> list[Diagnostic]:
        files, found = [], []
        for number, one in enumerate((text, *others)):
            file, diagnostics = read(one, f"{number}.camp")
            files.append(file)
            found += diagnostics
        return found + check(files, host, Project(folder, project, {}, folder / "templates"))

    return run


@pytest.fixture(scope="session")
def names(problems: Callable[..., list[Diagnostic]]) -> Callable[..., list[str]]:
    """Only the names of what is wrong."""

    def run(*texts: str, project: bool = False) -> list[str]:
        return [item.name for item in problems(*texts, project=project)]

    return run
