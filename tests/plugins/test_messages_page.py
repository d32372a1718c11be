"""docs/messages.md: its project works as it stands, and the settings it names are those that there are."""

import email
import email.policy
import os
import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from rules_engine.cli.main import cli
from rules_engine_plugins import crm, sms
from rules_engine_plugins import email as plugin

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "messages.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^```\w+ file=(\S+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
TABLES = [tomllib.loads(text) for text in re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)]


@pytest.fixture
def camp(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("CAMP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-config"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments, code=0):
        result = CliRunner().invoke(cli, list(arguments), prog_name="camp")
        assert result.exit_code == code, result.output
        return result.stdout

    run("init", "shop")
    monkeypatch.chdir(tmp_path / "shop")
    for name, text in FILES.items():
        Path(name).write_text(text, encoding="utf-8")
    return run


def test_the_pages_project_works_as_it_stands(camp):
    assert len(FILES) == 5
    camp("check")
    camp("fmt", "--check", "campaigns")
    assert 'nonstop' in camp("test", "--json", "campaigns/stop.camp")
    Path("people.jsonl").write_text('{"id": "eva", "email": "eva@example.com", "first_name": "Eva", "locale": "de-AT", "created_at": "2026-03-01T08:00:00Z"}\n')
    camp("contact", "import", "people.jsonl")
    camp("event", "send", "order.placed", "--contact", "eva", "order_id=A9", "total=600")
    camp("run", "--once")
    sent = {mail["To"]: mail for mail in (email.message_from_bytes(file.read_bytes(), policy=email.policy.default) for file in Path("outbox").glob("*.eml"))}
    assert sent["eva@example.com"]["Subject"] == "Danke, Eva" and sent["eva@example.com"]["List-Unsubscribe"] is None
    assert sent["sales@shop.example"]["Cc"] == "boss@shop.example" and sent["sales@shop.example"]["Subject"] == "Eva ordered for 600"


def test_the_settings_of_the_examples_are_known():
    known = {"email": plugin.__doc__, "sms": sms.__doc__, "crm": crm.__doc__, "mailbox": PAGE}
    seen = 0
    for table in TABLES:
        for name, values in table.items():
            for key in values:
                seen += 1
                assert re.search(rf"\b{key}\b", known[name]), f"[{name}] {key}"
    assert seen > 25


def test_every_setting_of_the_plugin_stands_on_the_page():
    rows = PAGE[PAGE.index("| `[email]` |") : PAGE.index("A connection is kept by each worker")]
    named = set(re.findall(r"`(\w+)`", "\n".join(row.split("|")[1] + row.split("|")[3] for row in rows.splitlines() if row.startswith("|"))))
    stated = plugin.__doc__[plugin.__doc__.index("Settings (`[email]`") :].split("\n\n")[0]
    words = set(re.findall(r"\b([a-z]+(?:_[a-z]+)*)(?= =|;|,| \(|$)", re.sub(r"\([^()]*\)|\{[^}]*\}|\"[^\"]*\"", "", stated)))
    missing = {word for word in words & {"transport", "from", "sender", "reply_to", "headers", "unsubscribe_url", "preferences_url", "track_opens", "track_clicks",
                                         "track_text", "track_transactional", "utm", "host", "port", "tls", "ca_file", "user", "password", "timeout",
                                         "max_messages", "idle", "helo", "envelope_from"} if word not in named}  # fmt: skip
    assert not missing and len(words) > 15
