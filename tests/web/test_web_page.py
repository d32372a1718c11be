"""docs/http.md: its settings are taken, its requests answered as it says."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

from tests.web.conftest import TOKEN

PAGE = (Path(__file__).parents[2] / "docs" / "http.md").read_text(encoding="utf-8")


def test_the_settings_of_the_page_are_taken_and_its_requests_answered_as_it_says(make):
    (table,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    settings = tomllib.loads(table)["web"]
    site = make(**settings, webhooks_shop_secret="a-secret", webhooks_postmark_password="a-password")
    requests = re.findall(r"```sh\n(curl.*?)```\n```json\n(.*?)```", PAGE, re.DOTALL)
    assert len(requests) == 5
    for request, said in requests:
        words = shlex.split(request.replace("\\\n", " ").replace("$CAMP_WEB_TOKEN", TOKEN))
        headers = dict(words[index + 1].split(": ", 1) for index, word in enumerate(words) if word == "-H")
        answer = site.http.post(words[1], headers=headers, content=words[words.index("-d") + 1])
        body = {key: value for key, value in answer.json().items() if key != "warning"}
        assert body == json.loads(said)


def test_every_setting_and_address_of_the_page_exists(site):
    document = site.http.get("/openapi.json").json()
    described = {path.split("{")[0].rstrip("/") for path in document["paths"]}
    for path in set(re.findall(r"`(?:GET |POST )?(/[a-z0-9/.]+)", PAGE)):
        assert path.rstrip("/.") in described | {"/metrics", "/t/page.gif", "/assets/guide.pdf", "/v"}, path
