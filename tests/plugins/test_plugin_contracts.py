"""Every first-party action keeps the contract that plugin authors inherit, and does what its page says."""

import ast
import sys
from pathlib import Path

import rules_engine_plugins
from rules_engine import host
from rules_engine.actions import Change
from rules_engine.testing.plugins import ActionContract

HOST = host.load()
ACTIONS = HOST.actions


def lines(project, name):
    file = project / "outbox" / name
    return len(file.read_text().splitlines()) if file.exists() else 0


class TestEmailToFolder(ActionContract):
    action = ACTIONS["email.send"]
    primary = "welcome_1"
    params = {"cart": "A"}
    settings = {
        "from": "Shop <shop@example.com>",
        "fsync": False,
        "unsubscribe_url": "https://shop.example/u?c={contact}&t={template}",
    }
    idempotent = True

    def prepare(self, project):
        (project / "templates").mkdir(exist_ok=True)
        (project / "templates/welcome_1.txt").write_text(
            "Subject: Hello {{ contact.first_name }}\n\nHi {{ contact.first_name }}, {{ cart }}\n"
        )
        (project / "templates/welcome_1.html").write_text("<p>Hi {{ contact.first_name }}, {{ cart }}</p>\n")

    def hand_overs(self, project):
        return len(list((project / "outbox").glob("*.eml")))


class TestEmailWithLinks(TestEmailToFolder):
    params = {"cart": "A", "headers": {"X-Team": "shop"}}
    settings = {
        "from": "Shop <shop@example.com>",
        "fsync": False,
        "sender": "owner",
        "track_text": True,
        "links": {"url": "https://news.example", "key": "k"},
    }


class TestEmailNotify(ActionContract):
    action = ACTIONS["email.notify"]
    primary = "lead"
    params = {"to": "sales@example.com", "cc": ["boss@example.com"]}
    settings = {"from": "Shop <shop@example.com>", "fsync": False}
    idempotent = True

    def prepare(self, project):
        (project / "templates").mkdir(exist_ok=True)
        (project / "templates/lead.txt").write_text("Subject: Call {{ contact.first_name | default('them') }}\n\n{{ contact.id }}\n")

    def hand_overs(self, project):
        return len(list((project / "outbox").glob("*.eml")))


class TestSmsToFolder(ActionContract):
    action = ACTIONS["sms.send"]
    primary = "You left something behind"
    settings = {"fsync": False}
    idempotent = True

    def hand_overs(self, project):
        return lines(project, "sms.jsonl")


class TestPushWeb(ActionContract):
    action = ACTIONS["push.web"]
    primary = "Three things wait for you."
    params = {"title": "Your cart", "url": "https://shop.example/cart", "data": {"cart": "A"}}
    settings = {"fsync": False}
    idempotent = True

    def hand_overs(self, project):
        return lines(project, "push.jsonl")


class TestPushMobile(TestPushWeb):
    action = ACTIONS["push.mobile"]


class TestCrmToFolder(ActionContract):
    action = ACTIONS["crm.push"]
    primary = "lead"
    params = {"owner": "round-robin", "score": 85}
    settings = {"fsync": False, "contact_fields": ["id", "email", "first_name", "points"]}
    idempotent = True

    def hand_overs(self, project):
        return lines(project, "crm.jsonl")


class TestWebhookToFolder(ActionContract):
    action = ACTIONS["webhook.post"]
    primary = "https://hooks.example.com/cart"
    params = {"body": {"cart": "A"}, "headers": {"X-Team": "shop"}}
    settings = {"fsync": False}
    idempotent = True

    def hand_overs(self, project):
        return lines(project, "webhook.jsonl")


class TestContactSet(ActionContract):
    action = ACTIONS["contact.set"]
    params = {"plan": "paid", "consent.email": True}


class TestPointsAdd(ActionContract):
    action = ACTIONS["points.add"]
    primary = 5
    params = {"reason": "signed up", "group": "sales"}


class TestPointsSubtract(ActionContract):
    action = ACTIONS["points.subtract"]
    primary = 5


class TestSegmentAdd(ActionContract):
    action = ACTIONS["segment.add"]
    primary = "vip"


class TestSegmentRemove(ActionContract):
    action = ACTIONS["segment.remove"]
    primary = "vip"


class TestTagAdd(ActionContract):
    action = ACTIONS["tag.add"]
    primary = "hot"


class TestTagRemove(ActionContract):
    action = ACTIONS["tag.remove"]
    primary = "hot"


class TestEventEmit(ActionContract):
    action = ACTIONS["event.emit"]
    primary = "lead.qualified"
    params = {"subject": "x", "score": 5}


class TestCampaignEnter(ActionContract):
    action = ACTIONS["campaign.enter"]
    primary = "welcome"


class TestCampaignLeave(ActionContract):
    action = ACTIONS["campaign.leave"]
    primary = "welcome"
    params = {"reason": "paid"}


class TestLogWrite(ActionContract):
    action = ACTIONS["log.write"]
    primary = "a line"


def test_every_action_has_a_contract():
    tested = {
        kind.action.name
        for kind in globals().values()
        if isinstance(kind, type) and issubclass(kind, ActionContract) and kind is not ActionContract
    }
    assert tested == set(ACTIONS)


def test_the_first_party_plugins_load_without_a_problem():
    assert HOST.problems == ()
    assert len(set(HOST.providers.values())) == 13


def test_internal_actions_say_exactly_what_changes():
    def changes(name, primary=None, **params):
        return ACTIONS[name].changes(primary, params)

    assert changes("contact.set", plan="paid", vip=True) == (Change("set", "plan", "paid"), Change("set", "vip", True))
    assert changes("points.add", 5) == (Change("add", "points", 5),)
    assert changes("points.subtract", 2.5, group="sales") == (Change("add", "points.sales", -2.5),)
    assert changes("points.add", None) == changes("points.add", float("nan")) == changes("points.add", True) == ()
    assert changes("segment.add", "vip") == (Change("segment_add", "vip"),)
    assert changes("segment.remove", "vip") == (Change("segment_remove", "vip"),)
    assert changes("tag.add", "hot") == (Change("tag_add", "hot"),)
    assert changes("tag.remove", "hot") == (Change("tag_remove", "hot"),)
    assert changes("event.emit", "a.b", subject="s", x=1) == (Change("emit", "a.b", {"subject": "s", "data": {"x": 1}}),)
    assert changes("event.emit", "a.b") == (Change("emit", "a.b", {"subject": None, "data": {}}),)
    assert changes("campaign.enter", "c", reason="r") == (Change("campaign_enter", "c", "r"),)
    assert changes("campaign.leave", "c") == (Change("campaign_leave", "c", ""),)
    assert changes("log.write", "x") == (Change("log", "", "x"),)


def test_events_that_change_facts():
    def changes(name, **data):
        return host.event_changes(HOST.events[name], data)

    assert changes("email.unsubscribed") == (Change("set", "consent.email", False),)
    assert changes("email.complained") == (Change("set", "suppressed.email", "complaint"),)
    assert changes("email.bounced", kind="hard") == (Change("set", "suppressed.email", "bounce"),)
    assert changes("email.bounced", kind="soft") == changes("email.bounced") == ()
    assert changes("push.unsubscribed") == (Change("set", "consent.push", False),)
    assert changes("sms.unsubscribed") == (Change("set", "consent.sms", False),)


def test_plugins_import_only_the_public_seam_of_camp():
    """From Camp `rules_engine.plugin`, else each other, jinja2 and the standard library."""
    allowed = sys.stdlib_module_names | {"jinja2"}
    for file in Path(rules_engine_plugins.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                own = name == "rules_engine.plugin" or name.startswith("rules_engine_plugins")
                assert own or name.partition(".")[0] in allowed, f"{file.name} imports {name}"


def test_a_campaign_has_no_place_for_a_secret():
    """Secrets are settings, from the environment or a file of its own: no action takes one as an argument, where it would stand in a `.camp`."""
    from rules_engine import host
    from rules_engine.actions import SECRETS

    found = host.load().actions
    named = [f"{action.name} {parameter.name}" for action in found.values() for parameter in action.parameters]
    assert len(named) > 20 and not [name for name in named if any(word in name.split()[1] for word in SECRETS)]
