"""grammar/README.md does what it says: each `camp` block is checked and its TESTs are run.

An HTML comment before a block says more about it (the page explains this to its readers):
`name: shop` names the block; `with: shop` puts that block, and what it is with, before it; `wrong: NAME` means that checking gives
exactly that one message.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from rules_engine.plugin import Action
from rules_engine.project import load_program
from rules_engine.syntax import nodes as n
from rules_engine.syntax.read import read
from rules_engine.testing.runner import run_tests

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "grammar" / "README.md"
BLOCK = re.compile(r"(?:<!--(?P<about>[^>]*)-->\n)?```camp\n(?P<text>.*?)```", re.DOTALL)
OWN = {"class", "ignore_quiet", "ignore_limit", "expires_after", "priority", "subject", "to", "from", "reply_to", "preheader", "attachments"}


class Block(NamedTuple):
    line: int
    text: str
    name: str
    base: str
    wrong: str


def blocks() -> list[Block]:
    page = PAGE.read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(page):
        about = dict(part.strip().split(": ", 1) for part in (match["about"] or "").split(";") if part.strip())
        assert set(about) <= {"name", "with", "wrong"}, about
        line = page.count("\n", 0, match.start("text")) + 1
        found.append(Block(line, match["text"], about.get("name", ""), about.get("with", ""), about.get("wrong", "")))
    return found


BLOCKS = blocks()
NAMED = {block.name: block for block in BLOCKS if block.name}


def write_project(block: Block, folder: Path) -> None:
    """The block and what it is with, each in a file of its own, and the templates that they send."""
    (folder / "camp.toml").write_text('name = "reference"\n')
    files: list[Block] = [block]
    while files[0].base:
        files.insert(0, NAMED[files[0].base])
    for number, part in enumerate(files):
        (folder / f"{number}.camp").write_text("\n" * (part.line - 1) + part.text, encoding="utf-8")
        write_templates(part.text, folder / "templates")


def write_templates(text: str, folder: Path) -> None:
    """Each template that is sent, with a placeholder for each further argument of the sending."""
    folder.mkdir(exist_ok=True)
    tree, _ = read(text, "block")
    wanted: dict[str, set[str]] = {}
    for node in n.walk(tree):
        if isinstance(node, n.Action) and node.name == "email.send" and isinstance(node.primary, n.Literal):
            wanted.setdefault(node.primary.value, set()).update(key for key, _ in node.arguments if key not in OWN)
    for name, keys in wanted.items():
        body = " ".join(f"{{{{ {key} }}}}" for key in sorted(keys))
        (folder / f"{name}.txt").write_text(f"Subject: {name}\n\n{body}\n")


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"line {block.line}")
def test_block(block: Block, tmp_path: Path) -> None:
    write_project(block, tmp_path)
    loaded = load_program([tmp_path])
    said = [f"{item.name}: {item.message}" for item in loaded.diagnostics]
    if block.wrong:
        assert [item.name for item in loaded.diagnostics] == [block.wrong], said
        return
    assert said == []
    assert loaded.program is not None
    for result in run_tests(loaded.program, loaded.model.tests):
        assert result.passed, (result.name, [(failure.message, *failure.notes) for failure in result.failures], result.failures[0].timeline)


def test_the_page_has_what_it_promises() -> None:
    assert len(BLOCKS) > 35
    assert sum(block.text.count("\nTEST ") for block in BLOCKS) > 25
    assert sum(1 for block in BLOCKS if block.wrong) >= 8


def test_every_keyword_of_the_grammar_stands_in_the_index() -> None:
    grammar = (ROOT / "grammar" / "campaign.lark").read_text(encoding="utf-8")
    keywords = {word.upper() for word in re.findall(r"^[A-Z_]+\.\d: /\(\?i:([a-z]+)\)", grammar, re.MULTILINE)}
    page = PAGE.read_text(encoding="utf-8")
    index = page[page.index("\n## Keywords\n"):page.index("\n## Glossary\n")]
    named = {word for entry in re.findall(r"`([A-Z ]+)`", index) for word in entry.split()}
    assert keywords and keywords - named == set()


def test_every_action_event_and_attribute_stands_in_the_tables() -> None:
    from rules_engine import host
    from rules_engine.model.meaning import ATTRIBUTES

    page = PAGE.read_text(encoding="utf-8")
    tables = page[page.index("\n## Tables\n"):page.index("\n## When something is wrong\n")]
    plugins = host.load()
    for action in plugins.actions.values():
        assert f"`{action.name}" in tables, action.name
        row = next(line for line in tables.splitlines() if line.startswith("| ") and f"`{action.name}" in line)
        for name in names(action):
            assert name in row or name == "class" and "Every message also takes `class`" in tables, (action.name, name)
    for event in plugins.events:
        family, _, verb = event.partition(".")
        assert f"`{event}`" in tables or re.search(rf"`{family}\.\w+`[^|]*`{verb}`", tables), event
    for attribute in ATTRIBUTES:
        assert f"`contact.{attribute}`" in tables or f"`{attribute}`" in tables, attribute


def names(action: Action) -> list[str]:
    return [parameter.name for parameter in action.parameters]


def test_links_lead_somewhere() -> None:
    page = PAGE.read_text(encoding="utf-8")
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in re.findall(r"^#+ (.*)$", page, re.MULTILINE)}
    assert {link for link in re.findall(r"\]\(#([^)]*)\)", page)} <= anchors


@pytest.mark.parametrize("block", [block for block in BLOCKS if not block.wrong], ids=lambda block: f"line {block.line}")
def test_block_is_written_as_camp_fmt_writes(block: Block) -> None:
    from rules_engine.syntax.printer import format_text

    assert format_text(block.text, "block")[0] == block.text
