"""Links of a message that come back to Camp: click links, the open pixel, unsubscribe, preferences, view; and UTM parameters.

A click link holds its target inside the signature, so that nobody can make Camp redirect to a place that no message named. What is
not a plain web link is left as it is, byte by byte: the rest of the author's HTML is none of our business.
"""

from __future__ import annotations

import html as markup
import re
from collections.abc import Callable, Iterator, Mapping
from html.parser import HTMLParser
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

from rules_engine.plugin import Call, signed_link

MAX_TARGET = 2_000  # characters of a link that is made a click link; mail programs break longer ones
UTM = ("source", "medium", "campaign", "content", "term", "id")

_WEB = re.compile(r"https?://[^\s\x00-\x20\x7f<>\"]+", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"""([^\s"'>/=]+)(?:(\s*=\s*)("[^"]*"|'[^']*'|[^\s"'>]+))?""")
_IN_TEXT = re.compile(r"https?://[^\s<>\"'\]]+", re.IGNORECASE)


class Links(NamedTuple):
    """The links of one message. `values`: what each token says besides its target."""

    base: str
    key: str
    values: Mapping[str, Any]

    def of(self, purpose: str) -> str:
        """The link for a purpose: open | unsubscribe | preferences | view."""
        link = signed_link(self.base, self.key, purpose, self.values)
        if len(link) > 900 and purpose == "unsubscribe":  # a header line has 998 characters; who wants no more is enough
            link = signed_link(self.base, self.key, purpose, {name: self.values[name] for name in ("c", "s")})
        return link

    def click(self, target: str) -> str:
        """The link that leads to `target` and says so to Camp."""
        return signed_link(self.base, self.key, "click", {**self.values, "u": target})

    def ours(self, url: str) -> bool:
        """Whether a link leads to Camp itself already."""
        return url.startswith(self.base.rstrip("/") + "/") and bool(re.match(r"[a-z]/", url[len(self.base.rstrip("/")) + 1 :]))


def links_of(call: Call) -> Links | None:
    """The links of a call, if the service has a public address and a key for them."""
    table = call.settings.get("links")
    base, key = (table.get("url"), table.get("key")) if isinstance(table, Mapping) else (None, None)
    if not isinstance(base, str) or not isinstance(key, str) or not base or not key:
        return None
    template = call.primary if isinstance(call.primary, str) else ""
    return Links(base, key, {"e": call.key, "c": str(call.contact.get("id", "")), "s": template, "m": call.campaign or ""})


# ---------------------------------------------------------------- UTM


def utm_of(call: Call, tracked: bool) -> dict[str, str]:
    """The parameters that the message's links get: {"utm_source": …}. The setting `utm` is a table of overrides, or false. They are added
    where clicks are tracked, and where the operator wrote a table."""
    table = call.settings.get("utm")
    if table is False or (not tracked and not isinstance(table, Mapping)):
        return {}
    found = {"source": "camp", "medium": call.action.partition(".")[0], "campaign": call.campaign or "", "content": ""}
    if isinstance(call.primary, str) and call.action.startswith("email."):
        found["content"] = call.primary
    if isinstance(table, Mapping):
        found |= {name: str(value) for name, value in table.items() if name in UTM and isinstance(value, (str, int))}
    return {f"utm_{name}": value[:200] for name, value in found.items() if value}


def with_parameters(url: str, parameters: Mapping[str, str]) -> str:
    """The URL with those parameters that it does not have yet; its own query and fragment stay as they are."""
    if not parameters:
        return url
    try:
        parts = urlsplit(url)
        known = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    except ValueError:
        return url
    added = "&".join(f"{name}={quote(value.encode('utf-8', 'replace'))}" for name, value in parameters.items() if name not in known)
    query = "&".join(part for part in (parts.query, added) if part)
    return urlunsplit((parts.scheme, parts.netloc, parts.path, query, parts.fragment))


def plain(url: str) -> str | None:
    """A web link in ASCII, as a redirect needs it; None for whatever is none (mailto, an anchor, nonsense)."""
    url = url.strip()
    if len(url) > MAX_TARGET or not _WEB.fullmatch(url) or "\\" in url:
        return None
    try:
        parts = urlsplit(url)
        if not parts.hostname or "@" in parts.netloc:
            return None
        host = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode("ascii")
    except (ValueError, UnicodeError):
        return None
    rest = [quote(part.encode("utf-8", "replace"), safe="%/:?#[]@!$&'()*+,;=~-._") for part in (parts.path, parts.query, parts.fragment)]
    return urlunsplit((parts.scheme.lower(), host, *rest))


# ---------------------------------------------------------------- the parts of a message


def rewrite(links: Links | None, parameters: Mapping[str, str]) -> Callable[[str], str | None]:
    """What becomes of a link's target: a click link if `links`, else only the parameters; None: it stays."""

    def changed(url: str) -> str | None:
        target = plain(url)
        if target is None or (links is not None and links.ours(target)):
            return None
        target = with_parameters(target, parameters)
        return target if links is None else links.click(target)

    return changed


def in_html(html: str, change: Callable[[str], str | None], keep: frozenset[str] = frozenset()) -> str:
    """The HTML with the href of each <a> and <area> changed. Left alone: `keep`, and tags with data-camp-track="no"."""
    reader = _Tags()
    reader.feed(html)
    reader.close()
    pieces, end = [], 0
    for start, tag in reader.found:
        new = _changed_tag(tag, change, keep)
        if new != tag and html.startswith(tag, start):
            pieces += [html[end:start], new]
            end = start + len(tag)
    return "".join(pieces) + html[end:]


def _changed_tag(tag: str, change: Callable[[str], str | None], keep: frozenset[str]) -> str:
    attributes = list(_attributes(tag))
    values = {name: value for name, value, _ in reversed(attributes)}  # the first of a name counts, as in a browser
    if str(values.get("data-camp-track", "")).strip().lower() in ("no", "off", "false"):
        return tag
    for name, value, span in attributes:
        if name == "href":
            new = None if value.strip() in keep else change(value)
            return tag if new is None else f'{tag[: span[0]]}"{markup.escape(new)}"{tag[span[1] :]}'
    return tag


def _attributes(tag: str) -> Iterator[tuple[str, str, tuple[int, int]]]:
    """(name, value, where the value stands with its quotes) of a start tag."""
    for match in _ATTRIBUTE.finditer(tag, re.match(r"<[^\s/>]*", tag).end()):  # type: ignore[union-attr]
        value = match[3] or ""
        bare = value[1:-1] if value[:1] in ("'", '"') else value
        if match[3] is not None:
            yield match[1].lower(), markup.unescape(bare), match.span(3)


class _Tags(HTMLParser):
    """Where the start tags of links stand; what is in comments, scripts and styles is no link."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[int, str]] = []
        self._lines = [0]

    def feed(self, data: str) -> None:
        """All of the HTML, once."""
        for match in re.finditer("\n", data):
            self._lines.append(match.end())
        super().feed(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("a", "area"):
            line, column = self.getpos()
            self.found.append((self._lines[line - 1] + column, self.get_starttag_text() or ""))


def in_text(text: str, change: Callable[[str], str | None], keep: frozenset[str] = frozenset()) -> str:
    """Plain text with each web link in it changed; punctuation behind a link is no part of it."""

    def one(match: re.Match[str]) -> str:
        whole = match[0]
        url = whole.rstrip(".,;:!?")
        if url.endswith(")") and url.count("(") < url.count(")"):
            url = url[:-1]
        new = None if url in keep else change(url)
        return whole if new is None else new + whole[len(url) :]

    return _IN_TEXT.sub(one, text)


def with_pixel(html: str, address: str) -> str:
    """The HTML with an image of one pixel as the last thing in its body."""
    image = f'<img src="{markup.escape(address)}" width="1" height="1" alt="" style="border:0;width:1px;height:1px">'
    ends = list(re.finditer(r"</body\s*>", html, re.IGNORECASE))
    return html[: ends[-1].start()] + image + html[ends[-1].start() :] if ends else html + image
