"""Is it a person or a machine, and on which device: simple documented tables over what a request says of itself. Pure.

Mail programs fetch pixels ahead, scanners of companies follow every link, crawlers read pages: such visits are recorded with
`machine: yes`, so that a campaign can leave them out. Who wants to deceive can; this is for statistics, not for trust.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

HANDOVER_MS = 2_000  # nobody reads and clicks sooner after the hand-over
BURST_MS = 1_000  # two different links of one message within this are not a person's

PREFETCH = ("purpose", "sec-purpose", "x-purpose", "x-moz")
_AHEAD = ("prefetch", "preview", "prerender")

# Mail proxies first, then scanners of mail gateways, chat and social previews, crawlers, monitors, programs.
_MACHINES = re.compile(
    "googleimageproxy|yahoomailproxy|ggpht|mail-?privacy|barracuda|mimecast|proofpoint|safelinks|ironport|fireeye|symantec|sophos|trendmicro"
    "|microsoft office existence|ms-office|skypeuripreview|slackbot|slack-img|whatsapp|telegrambot|discordbot|facebookexternalhit|twitterbot"
    "|linkedinbot|bot\\b|bot/|crawl|spider|slurp|scanner|monitor|pingdom|uptime|headlesschrome|phantomjs|puppeteer|playwright|selenium"
    "|curl/|wget/|python|httpx|aiohttp|go-http-client|java/|okhttp|libwww|axios|node-fetch|undici|guzzle|apache-httpclient|ruby",
    re.IGNORECASE,
)
_APPLE_PROXY = "mozilla/5.0"  # all that Apple's Mail Privacy Protection says of itself

_DEVICES = (  # the first that fits
    ("tv", re.compile("smart-?tv|apple ?tv|googletv|hbbtv|netcast|tizen.*tv|webos.*tv|roku", re.IGNORECASE)),
    ("tablet", re.compile("ipad|tablet|playbook|silk|kindle|android(?!.*mobile)", re.IGNORECASE)),
    ("mobile", re.compile("mobi|iphone|ipod|android|windows phone|blackberry|opera mini", re.IGNORECASE)),
    ("desktop", re.compile("windows|macintosh|mac os|x11|linux|cros", re.IGNORECASE)),
)


def machine(method: str, headers: Mapping[str, str]) -> str:
    """Why a visit is a machine's, in a word, or ""."""
    agent = headers.get("user-agent", "").strip()
    if method == "HEAD":
        return "head"
    if any(word in headers.get(name, "").lower() for name in PREFETCH for word in _AHEAD):
        return "prefetch"
    if not agent or agent.lower() == _APPLE_PROXY:
        return "agent"
    return "agent" if _MACHINES.search(agent[:1_000]) else ""


def device(headers: Mapping[str, str]) -> str:
    """tv | tablet | mobile | desktop | other, from the user agent."""
    agent = headers.get("user-agent", "")[:1_000]
    return next((name for name, pattern in _DEVICES if pattern.search(agent)), "other")


def refuses(headers: Mapping[str, str]) -> bool:
    """Whether the browser asks not to be followed: Do Not Track, or Global Privacy Control."""
    return headers.get("dnt", "").strip() == "1" or headers.get("sec-gpc", "").strip() == "1"
