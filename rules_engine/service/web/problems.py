"""The one shape of an error: problem details of RFC 9457, `{"type", "title", "status", "detail"}`."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from rules_engine.service.web import pages

MEDIA = "application/problem+json"


class Problem(Exception):
    """Ends a request. name: what it is called for ever (`body-too-large`); detail: one sentence with the place, the reason and the
    way out."""

    def __init__(self, status: int, name: str, detail: str, headers: Mapping[str, str] | None = None, **more: Any) -> None:
        super().__init__(detail)
        self.status, self.name, self.detail, self.headers, self.more = status, name, detail, dict(headers or {}), more

    def body(self) -> dict[str, Any]:
        """As the answer says it."""
        return {
            "type": f"urn:camp:problem:{self.name}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            **self.more,
        }


class PersonalProblem(Problem):
    """One that people meet: always told as a page, other problems where a browser asks for one."""


def busy(detail: str, seconds: int = 2) -> Problem:
    """Try again later: nothing of this request was kept."""
    return Problem(503, "busy", detail, {"Retry-After": str(seconds)})


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None, media: str = "application/json") -> Response:
    """An answer as JSON; what is not to be kept by anybody between is the default."""
    return Response(orjson.dumps(content), status, {"Cache-Control": "no-store", **(headers or {})}, media)


async def on_problem(request: Request, error: Exception) -> Response:
    """The handler of Problem."""
    assert isinstance(error, Problem)
    if isinstance(error, PersonalProblem) or wants_page(request):
        said = error.detail[:1].upper() + error.detail[1:] + ("" if error.detail.endswith(".") else ".")
        answer = pages.page("This did not work", pages.paragraph(said), status=error.status)
        answer.headers.update(error.headers)
        return answer
    return json_response(error.body(), error.status, error.headers, MEDIA)


def wants_page(request: Request) -> bool:
    """Whether a person's browser asks: one that navigates says that it takes HTML, scripts and programs don't."""
    return "text/html" in request.headers.get("accept", "")


async def on_http_error(request: Request, error: Exception) -> Response:
    """Starlette's own 404 and 405."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404 and wants_page(request):
        return pages.page("Not found", pages.paragraph("There is nothing at this address."), 404)
    detail = {404: "there is nothing at this address; /openapi.json lists what there is", 405: "this address does not take this method"}
    name = {404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "refused")
    problem = Problem(error.status_code, name, detail.get(error.status_code, str(error.detail)), error.headers)
    return json_response(problem.body(), problem.status, problem.headers, MEDIA)


async def on_fault(request: Request, error: Exception) -> Response:
    """Ours: the log has the traceback, the answer nothing of it."""
    if wants_page(request):
        return pages.page("This did not work", pages.paragraph("It is our fault. Please try again later."), 500)
    problem = Problem(500, "internal", "this is a fault of Camp; nothing is known to be kept of this request. Its log says more")
    return json_response(problem.body(), 500, None, MEDIA)
