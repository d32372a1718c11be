"""`camp doctor` names what is wrong and the way out; each finding is provoked."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import threading
import time
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

from rules_engine.cli import doctor
from rules_engine.cli.settings import TABLES
from rules_engine.facts import Event
from rules_engine.model.project import SETTINGS
from rules_engine.store import open_store
from rules_engine.store.port import CLAIM, Arrival, Block, Settlement

ROOT = Path(__file__).resolve().parents[2]


def findings(project, *options, **more):
    done = project.process("doctor", "--json", *options, **more)
    return done.code, [json.loads(line) for line in done.out.splitlines()]


def about(found, name):
    return [(item["level"], item["message"]) for item in found if item["about"] == name]


def test_a_sound_project_has_no_error(pigeons):
    pigeons.process("event", "import", pigeons.events("first.jsonl", range(3)))
    pigeons.process("run", "--once")
    pigeons.process("db", "backup")
    code, found = findings(pigeons)
    assert code == 0 and not [item for item in found if item["level"] == "error"]
    assert {"versions", "settings", "secrets", "campaigns", "plugins", "time zones", "disk", "database", "send journal", "clock", "backlog",
            "timers", "outbox", "backup", "retention"} <= {item["about"] for item in found}
    assert all(item["help"] for item in found if item["level"] != "ok"), "a warning without a way out"
    words = pigeons.process("doctor")
    assert words.code == 0 and "0 errors" in words.err


def test_misspelt_settings_get_a_suggestion_and_secrets_are_seen(pigeons):
    toml = pigeons.folder / "camp.toml"
    toml.write_text(toml.read_text() + '\n[emial]\nfrom = "a@b.c"\n\n[email]\ntransprot = "smtp"\npassword = "x"\n\n[retention]\nevent = "1 day"\n')
    toml.chmod(0o644)
    code, found = findings(pigeons)
    said = [item for item in found if item["about"] == "settings"]
    assert [(item["help"]) for item in said] == ["is `email` meant?", "is `transport` meant?", "is `events` meant?"]
    assert code == 1 and about(found, "secrets")[0][0] == "error" and "email.password" in about(found, "secrets")[0][1]
    assert about(found, "retention")[0][0] == "error"
    toml.chmod(0o600)
    assert about(findings(pigeons)[1], "secrets")[0][0] == "warn"


@pytest.mark.parametrize(
    ("toml", "name", "said"),
    [
        ('[mailbox]\nfolder = "box"\nevery = "soon"', "mailbox", "every = 'soon' must be a number of seconds above 0"),
        ('[mailbox]\nfolder = "nowhere"', "mailbox", "is no Maildir"),
        ("[mailbox]\nevery = 5", "mailbox", "needs `folder` (a Maildir) or `host`"),
        ('[web]\nsites = "shop"', "web", "[web] sites must be an address"),
        ('[spool]\nfolder = "spool"\nquiet = "soon"', "spool", "[spool] quiet = 'soon' must be a number"),
        ('[log]\nlevel = "loud"', "log", "log.level is 'loud'"),
        ('[metrics]\nfile = "none/x.prom"', "log", "there is no folder"),
    ],
)  # fmt: skip
def test_values_that_cannot_be_are_errors_before_the_first_message(pigeons, toml, name, said):
    path = pigeons.folder / "camp.toml"
    path.write_text(path.read_text().partition("[email]")[0] + toml + "\n")
    code, found = findings(pigeons)
    assert code == 1 and [message for level, message in about(found, name) if level == "error" and said in message], found
    assert not [item for item in found if item["about"] == "settings" and item["level"] != "ok"], "a table of Camp's own is called unknown"
    assert pigeons.process("check").code == 0, "nor does camp check know it better"


SENDS = """
RULE mails
  WHEN order.placed
  THEN email.send "thanks"
END

RULE texts
  WHEN order.placed
  THEN sms.send "thanks"
END
"""


@pytest.fixture
def sends(pigeons):
    """`sends(toml)`: the pigeons' project with rules that send mail and text messages, and these settings."""
    (pigeons.folder / "campaigns" / "sends.camp").write_text(SENDS)
    (pigeons.folder / "templates").mkdir()
    (pigeons.folder / "templates" / "thanks.txt").write_text("Subject: Thanks\n\nThank you.\n")
    before = (pigeons.folder / "camp.toml").read_text()

    def write(toml):
        (pigeons.folder / "camp.toml").write_text(before + toml + "\n")
        return pigeons

    return write


SMTP = '[email]\ntransport = "smtp"\nfrom = "a@b.example"\nhost = "h"\nunsubscribe_url = "https://b.example/u"\n'
UNUSABLE = [
    ("", "there is no sender: give `from` under [email]"),
    ('[email]\nfrom = "hello"', "the setting from = 'hello' can't be used: 'hello' is no e-mail address"),
    ('[email]\nfrom = "a@b.example"\nreply_to = "nobody"', "the setting reply_to = 'nobody' can't be used"),
    ('[email]\nfrom = "a@b.example"\nunsubscribe_url = "shop"', "the setting unsubscribe_url = 'shop' can't be used"),
    (SMTP.replace("smtp", "smpt"), "transport = 'smpt' is unknown; known are folder and smtp"),
    (SMTP.replace('host = "h"', ""), "the setting host is missing"),
    (SMTP + 'port = "x"', "the setting port = 'x' must be a number from 1 to 65535"),
    (SMTP + 'tls = "non"', "the setting tls = 'non' is unknown; known are starttls, tls and none"),
    (SMTP + 'timeout = "x"', "the setting timeout = 'x' is no number above 0"),
    (SMTP + "idle = -1", "the setting idle = -1 is no number above 0"),
    (SMTP + 'throttle = "fast"', "email.throttle = 'fast' is no rate"),
    (SMTP + 'throttle = "10 per secnd"', "is no rate"),
    (SMTP + "throttle = 10", "email.throttle = 10 is no rate"),
    (SMTP + '[sms]\ntransport = "pigeon"', "known are folder, webhook and twilio"),
    (SMTP + '[sms]\ntransport = "webhook"', "the setting url is missing"),
    (SMTP + '[sms]\ntransport = "webhook"\nurl = "ftp://x"', "the setting url = 'ftp://x' can't be called: the URL must begin with https"),
    (SMTP + '[sms]\ntransport = "twilio"', "the setting account_sid is missing"),
]


@pytest.mark.parametrize(("toml", "said"), UNUSABLE)
def test_a_service_does_not_start_where_no_message_could_leave_and_the_doctor_says_the_same(sends, toml, said):
    project = sends(toml)
    code, found = findings(project)
    assert code == 1 and [message for level, message in about(found, "transports") if level == "error" and said in message], found
    run = project.process("run", "--once")
    assert run.code == 5 and said in run.err and "CAMP_PLUGIN" not in run.err


def test_what_no_campaign_uses_stops_nothing(sends):
    project = sends(SMTP + 'port = "x"\nthrottle = "fast"')
    assert project.process("run", "--once").code == 5
    assert project.process("run", "--once", "--no-dispatch").code == 0, "what only decides needs no transport"
    (project.folder / "campaigns" / "sends.camp").unlink()
    code, found = findings(project)
    assert code == 0 and "error" not in {item["level"] for item in found}, "no campaign uses it"
    assert project.process("run", "--once").code == 0


def test_a_sender_in_each_action_needs_no_setting(sends):
    project = sends("")
    path = project.folder / "campaigns" / "sends.camp"
    path.write_text(path.read_text().replace('send "thanks"', 'send "thanks", from: "a@b.example"', 1))
    assert findings(project)[0] == 0 and project.process("run", "--once").code == 0


def test_marketing_mail_without_an_unsubscribe_link_does_not_leave_in_silence(sends):
    mail = SMTP.replace('unsubscribe_url = "https://b.example/u"\n', "")
    project = sends(mail)
    assert [level for level, said in about(findings(project)[1], "transports") if "List-Unsubscribe" in said] == ["warn"]
    run = project.process("run", "--once")
    assert run.code == 0 and run.err.count("without List-Unsubscribe") == 1
    sends(mail + '[web]\nurl = "https://news.b.example"')
    assert [level for level, said in about(findings(project)[1], "transports") if "CAMP_WEB_SECRET" in said] == ["error"]
    run = project.process("run", "--once")
    assert run.code == 5 and "CAMP_WEB_SECRET is not set" in run.err
    assert project.process("run", "--once", CAMP_WEB_SECRET="s" * 32).err.count("List-Unsubscribe") == 0
    path = project.folder / "campaigns" / "sends.camp"
    path.write_text(path.read_text().replace('send "thanks"', 'send "thanks", class: "transactional"', 1))
    assert project.process("run", "--once").code == 0


UNPRIVILEGED = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner", "--inh-caps=-all"] if os.geteuid() == 0 else []
"""What keeps root from writing where the mode forbids it."""


unprivileged = pytest.mark.skipif(bool(UNPRIVILEGED) and shutil.which("setpriv") is None, reason="root may do everything, and there is no setpriv")


@unprivileged
@pytest.mark.parametrize("name", ["campaigns", "templates"])
def test_a_folder_that_cannot_be_read_is_named_itself(sends, name):
    project = sends("")
    (project.folder / name).chmod(0)
    check = project.process("check", before=UNPRIVILEGED)
    found = findings(project, before=UNPRIVILEGED)[1]
    (project.folder / name).chmod(0o700)
    assert check.code == 5 and f"{project.folder / name}: you may not read" in check.err
    assert f"{name}: permission denied" in about(found, "campaigns")[0][1]


@unprivileged
@pytest.mark.parametrize("name", ["camp.db", "camp.db-shm", "camp.db.lock", "camp.db.sent", "."])
def test_the_file_that_cannot_be_written_is_named(pigeons, name):
    """A look at a read-only database leaves a camp.db-shm of its mode; a command as another user leaves files of that one."""
    pigeons.process("event", "import", pigeons.events("first.jsonl", range(3)))
    pigeons.process("run", "--once")
    path = pigeons.folder / name
    if name == "camp.db-shm":
        pigeons.database.chmod(0o400)
        pigeons.process("status", before=UNPRIVILEGED)
        pigeons.database.chmod(0o600)
    else:
        path.chmod(0o500 if name == "." else 0o400)
    run = pigeons.process("run", "--once", before=UNPRIVILEGED)
    code, found = findings(pigeons, before=UNPRIVILEGED)
    pigeons.folder.chmod(0o700)
    assert code == 1 and [said for level, said in about(found, "disk") if level == "error" and f"{path} can't be written" in said], found
    if name not in (".", "camp.db.sent"):
        assert run.code == 5 and str(path) in run.err, run
    assert "Traceback" not in run.err


def test_a_full_disk_is_an_error(pigeons, monkeypatch):
    monkeypatch.setattr(doctor.os, "statvfs", lambda folder: os.statvfs_result((4096, 4096, 1_000_000, 900, 900, 9, 9, 9, 0, 255)))
    assert [(finding.level, finding.message[:16]) for finding in doctor.disk(pigeons.database)] == [("error", "the disk is full")]


def test_who_may_write_the_project_and_read_the_journal(pigeons):
    pigeons.process("event", "import", pigeons.events("first.jsonl", range(1)))
    pigeons.process("run", "--once")
    places = [*pigeons.folder.parents]
    for place in places[: len(places) - 2]:  # pytest's own folders are for the user alone
        place.chmod(place.stat().st_mode | 0o001)
    (pigeons.folder / "camp.db.sent").chmod(0o604)
    pigeons.folder.chmod(0o777)
    assert (pigeons.folder / "camp.db.lock").stat().st_mode & 0o077 == 0
    said = [said for level, said in about(findings(pigeons)[1], "secrets") if level == "warn"]
    assert len(said) == 2 and "camp.db.sent holds personal data" in said[0] and "may write into" in said[1]


def test_links_that_lead_elsewhere_are_told(pigeons):
    path = pigeons.folder / "camp.toml"
    path.write_text(path.read_text() + '\n[web]\nurl = "https://news.shop.example"\n')
    assert about(findings(pigeons)[1], "web")[0][0] == "warn"
    assert about(findings(pigeons, CAMP_WEB_SECRET="s" * 32)[1], "web")[0][0] == "ok"


def test_what_waits_and_what_is_in_doubt(pigeons):
    pigeons.process("event", "import", pigeons.events("first.jsonl", range(2)))
    pigeons.process("run", "--once", "--no-dispatch")
    store = open_store(pigeons.database)
    now = int(time.time() * 1000)
    first, second = store.claim_effects(now, now, 10, lambda candidate: CLAIM)
    store.settle([Settlement(first.effect.id, 1, "unknown", now), Settlement(second.effect.id, 1, "failed", now)])
    store.record_events([Arrival(Event("odd", "nobody.knows", "c1", 5))])
    store.commit(Block("p", clock=now + 7_500_000))
    store.close()
    code, found = findings(pigeons)
    assert code == 1
    assert [level for level, _ in about(found, "outbox")] == ["error", "warn"] and "1 effect unknown" in about(found, "outbox")[0][1]
    assert about(found, "clock")[0][0] == "error" and "2 hours ahead" in about(found, "clock")[0][1]
    assert about(found, "service") == [("warn", "camp run is not active")] and about(found, "backlog")[0][0] == "ok"
    assert about(found, "backup")[0] == ("warn", "no backup was ever made")


def test_a_damaged_database_and_a_lost_journal_are_errors(pigeons):
    pigeons.process("event", "import", pigeons.events("first.jsonl", range(500)))
    pigeons.process("run", "--once", "--no-dispatch")
    pigeons.process("run", "--once", CAMP_PIGEON_SECONDS="0")
    (pigeons.folder / "camp.db.sent").unlink()
    code, found = findings(pigeons)
    assert code == 1 and about(found, "send journal")[0][0] == "error"
    with pigeons.database.open("r+b") as stream:
        stream.seek(60 * 4096)
        stream.write(b"\xff" * 4096 * 4)
    code, found = findings(pigeons)
    assert code == 1 and about(found, "database")[0][0] == "error" and "restore" in [i for i in found if i["about"] == "database"][0]["help"]


def test_broken_campaigns_and_plugins_are_errors(pigeons):
    (pigeons.folder / "campaigns" / "bad.camp").write_text("RULE x\n  WHEN nothing.known\n  THEN pigeon.send 5\n")
    (pigeons._plugins / "camp_pigeon.py").write_text("raise RuntimeError('no feathers')\n")
    code, found = findings(pigeons)
    assert code == 1 and about(found, "campaigns")[0][0] == "error" and "no feathers" in about(found, "plugins")[0][1]


def test_it_claims_of_a_third_partys_transport_only_what_is_declared(pigeons):
    module = pigeons._plugins / "camp_pigeon.py"
    said = [message for _, message in about(findings(pigeons)[1], "transports") if message.startswith("pigeon")]
    assert said == ["pigeon: it does not say where its hand-overs go, and is not tried"]
    source = module.read_text()
    module.write_text(source + 'TRANSPORTS = ("folder", "http")\ndef wrong_settings(settings):\n    if not settings.get("token"): yield "no token"\n')
    assert ("error", "pigeon: no token") in about(findings(pigeons)[1], "transports")
    said = [message for _, message in about(findings(pigeons, CAMP_PIGEON_TOKEN="x")[1], "transports") if message.startswith("pigeon")]
    assert said == ["pigeon: into the folder outbox/; nothing leaves this machine"]


def test_a_name_that_is_taken_is_not_called_missing(pigeons):
    module = pigeons._plugins / "camp_pigeon.py"
    module.write_text(module.read_text() + "\nfrom rules_engine.plugin import EventType\n@hookimpl\ndef register_events():\n    yield EventType('email.sent', 'x')\n")
    (found,) = [item for item in findings(pigeons)[1] if item["about"] == "plugins" and item["level"] == "error"]
    assert "already provided by the plugin 'email'" in found["message"] and "missing" not in found["message"]
    assert 'disabled = ["pigeon"]' in found["help"] and "plugin list" not in found["help"]


def test_a_fault_of_web_is_not_told_again_as_one_of_the_mailbox(pigeons):
    path = pigeons.folder / "camp.toml"
    path.write_text(path.read_text() + '\n[web]\nsites = "shop"\n[mailbox]\nhost = "imap.example"\n')
    found = findings(pigeons)[1]
    assert about(found, "web")[0][0] == "error" and about(found, "mailbox") == [("ok", "imap.example (not tried; --connect tries it)")]


def test_outside_of_a_project(tmp_path, pigeons):
    empty = type(pigeons)(tmp_path / "empty", pigeons.provider, pigeons._plugins)
    empty.folder.mkdir()
    code, found = findings(empty)
    assert code == 1 and about(found, "settings")[0][0] == "error"


@pytest.mark.parametrize("answers", [True, False])
def test_connect_greets_the_mail_server_and_sends_nothing(pigeons, answers):
    from aiosmtpd.controller import Controller
    from aiosmtpd.handlers import Sink

    class Box(Sink):
        letters = 0

        async def handle_DATA(self, server, session, envelope):
            Box.letters += 1
            return "250 OK"

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    controller = Controller(Box(), hostname="127.0.0.1", port=port)
    toml = pigeons.folder / "camp.toml"
    toml.write_text(toml.read_text() + f'\n[email]\ntransport = "smtp"\nhost = "127.0.0.1"\nport = {port}\ntls = "none"\nfrom = "a@b.c"\n')
    if answers:
        controller.start()
    try:
        code, found = findings(pigeons, "--connect")
    finally:
        if answers:
            controller.stop()
    level, said = next(item for item in about(found, "transports") if item[1].startswith("email"))
    assert (level, code) == (("ok", 0) if answers else ("error", 1)) and Box.letters == 0, said
    assert "127.0.0.1 answers" in said if answers else "does not work" in said


@pytest.mark.parametrize("plugin", ["crm", "email", "push", "sms", "webhook"])
def test_plugins_declare_all_settings_that_they_read(plugin):
    """SETTINGS of the first-party plugins against what their sources ask for, so that the doctor calls no good setting unknown."""
    module = import_module(f"rules_engine_plugins.{plugin}")
    helpers = {"email": ("_mail", "_smtp", "_tracking"), "sms": ("_twilio", "_handover", "_http"), "crm": ("_hubspot", "_handover", "_http")}
    read = re.compile(r"settings(?:\.get\(|\[|, )\"([a-z_]+)\"")
    asked = {name for part in (plugin, *helpers.get(plugin, ("_handover", "_http")))
             for name in read.findall((ROOT / "plugins" / f"{part}.py").read_text())}
    asked -= {"links"}  # given by the service, not by the operator
    asked -= {"url", "token"} if plugin == "webhook" else set()  # each campaign names its own address
    assert asked and asked <= {*module.SETTINGS}
    assert all(name in (module.__doc__ or "") for name in module.SETTINGS if name != "templates"), "a setting that its page does not tell"


def test_the_settings_table_of_the_manual_is_whole():
    page = (ROOT / "docs" / "operating.md").read_text()
    assert set(TABLES) < set(SETTINGS), "camp check would call a table of Camp's own unknown"
    mail = (ROOT / "docs" / "messages.md").read_text()
    assert all(f"`{key}`" in mail for key in TABLES["mailbox"])
    for name, table in TABLES.items():
        for key in table if name != "mailbox" else ():
            assert f"`{name}.{key}`" in page, f"docs/operating.md does not tell of {name}.{key}"


def test_a_service_tells_systemd(pigeons, tmp_path):
    """READY once it works, WATCHDOG while it lives, STOPPING at the end."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(path)
        line.settimeout(20)
        said: list[str] = []
        stop = threading.Event()

        def listen():
            while not stop.is_set():
                try:
                    said.append(line.recv(200).decode())
                except TimeoutError:
                    return
                if said[-1] == "STOPPING=1":
                    return

        thread = threading.Thread(target=listen)
        thread.start()
        child = pigeons.start(NOTIFY_SOCKET=path)
        pigeons.wait(lambda: "WATCHDOG=1" in said)
        pigeons.stop(child)
        thread.join(10)
        stop.set()
    assert said[0] == "READY=1" and said[-1] == "STOPPING=1" and set(said[1:-1]) == {"WATCHDOG=1"}


def test_deploy_files_name_what_exists(pigeons):
    """The unit, the container file and the example settings can't be run here; their commands, options and paths can be checked."""
    unit = (ROOT / "deploy" / "camp.service").read_text()
    assert re.search(r"^Type=notify$", unit, re.M) and re.search(r"^WatchdogSec=", unit, re.M) and re.search(r"^ProtectSystem=strict$", unit, re.M)
    container = (ROOT / "deploy" / "Containerfile").read_text()
    assert re.search(r"^USER (?!root)", container, re.M) and "HEALTHCHECK" in container and re.search(r"^VOLUME", container, re.M)
    for source in re.findall(r"^COPY (?!--from)(.+) \S+$", container, re.M):
        for name in source.split():
            assert (ROOT / name).exists(), name
    commands = re.findall(r"(?:ExecStart=\S*/|ExecStartPre=\S*/|CMD \[?\"?|ENTRYPOINT \[\")(camp.*)", unit + container)
    assert commands
    for line in commands:
        words = re.findall(r"[\w-]+", line.split("||")[0])
        words = [word for word in words if not word.startswith("0")]
        assert words[0] == "camp"
        for option in [word for word in words if word.startswith("--")]:
            assert option in pigeons(words[1], "--help").out if len(words) > 1 else True, (line, option)
    (pigeons.folder / "camp.toml").write_text((ROOT / "deploy" / "camp.toml.example").read_text())
    os.chmod(pigeons.folder / "camp.toml", 0o600)
    _, found = findings(pigeons)
    assert [level for level, _ in about(found, "settings")] == ["ok"], about(found, "settings")


def test_a_worker_that_is_late_is_seen_before_its_lease_ends():
    workers = [SimpleNamespace(name=name, shards=32, until=until) for name, until in (("one", 12_000), ("two", 3_000), ("three", -4_000))]
    found = list(doctor._home_of_server(SimpleNamespace(at_home=lambda: True, workers=lambda: workers)))[1:]
    assert [(item.level, item.message) for item in found] == [
        ("ok", "one has 32 shards; lease for 12 seconds"),
        ("warn", "two with 32 shards is late with its sign of life: its lease ends in 3 seconds"),
        ("warn", "three with 32 shards is silent for 4 seconds beyond its lease"),
    ]
