"""A scoring service: one model in memory, a journey in, a score out. How to run it stands in README.md."""

import asyncio
import json
import os
from typing import Any

import anyio
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest
from starlette.requests import ClientDisconnect

import cxml

MAX_BYTES = int(os.environ.get("CXML_MAX_BYTES", str(1 << 20)))
MAX_EVENTS = int(os.environ.get("CXML_MAX_EVENTS", "5000"))
MAX_WAITING = int(os.environ.get("CXML_MAX_WAITING", "32"))  # requests at once; more are turned away
BODY_SECONDS = float(os.environ.get("CXML_BODY_SECONDS", "10"))

scorer = cxml.load(os.environ["CXML_MODEL"], warm=True)  # compiled before the first request
at_work = anyio.CapacityLimiter(os.cpu_count() or 1)
app = FastAPI(title="cxml", docs_url=None, redoc_url=None, openapi_url=None)
answers = Counter("cxml_answers_total", "Answers of /score", ["code"])
seconds = Histogram("cxml_score_seconds", "Seconds to score a journey", buckets=[0.0003, 0.001, 0.003, 0.01, 0.1, 1])
waiting = Gauge("cxml_waiting", "Requests to /score that are being worked on")
in_flight = 0


class RefusedError(Exception):
    """An answer other than a score."""


async def read_body(request: Request) -> bytes:
    """Read no more than the limit, and not for ever."""
    content = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                content += chunk
                if len(content) > MAX_BYTES:
                    raise RefusedError(413, f"a request has at most {MAX_BYTES} bytes")
    except TimeoutError:
        raise RefusedError(408, "the request took too long to come") from None
    return bytes(content)


def score(body: bytes) -> dict[str, Any]:
    """Check what was asked, and answer it."""
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        raise RefusedError(400, "the request is no JSON") from None
    if not isinstance(asked, dict) or not isinstance(asked.get("events"), list):
        raise RefusedError(422, 'send {"events": [{...}, ...]}, and if you like "at", "customer", "reasons"')
    unknown = sorted(asked.keys() - {"events", "at", "customer", "reasons"})
    reasons, customer = asked.get("reasons", 3), asked.get("customer")
    if unknown or type(reasons) is not int or not 0 <= reasons <= 10 or not isinstance(customer, dict | None):
        what = f"unknown: {', '.join(unknown)}" if unknown else "'reasons' is 0 to 10, 'customer' an object"
        raise RefusedError(422, what)
    if len(asked["events"]) > MAX_EVENTS:
        raise RefusedError(413, f"a journey has at most {MAX_EVENTS} events here, this one {len(asked['events'])}")
    try:
        with seconds.time():
            return scorer.score(asked["events"], asked.get("at"), customer=customer, reasons=reasons)
    except (cxml.DataError, cxml.ConfigError) as error:
        raise RefusedError(422, str(error)) from None


@app.post("/score")
async def answer(request: Request) -> Response:
    """Score a journey, or turn it away at once where too many are waiting."""
    global in_flight
    if in_flight >= MAX_WAITING:
        answers.labels(503).inc()
        return JSONResponse({"error": "busy; try again"}, 503, {"Retry-After": "1"})
    in_flight += 1
    waiting.set(in_flight)
    try:
        body = await read_body(request)
        code, content = 200, await anyio.to_thread.run_sync(score, body, limiter=at_work)
    except RefusedError as refusal:
        code, content = refusal.args[0], {"error": refusal.args[1]}
    except ClientDisconnect:
        code, content = 499, {"error": "gone"}
    finally:
        in_flight -= 1
        waiting.set(in_flight)
    answers.labels(code).inc()
    return JSONResponse(content, code)


@app.get("/health")
async def health() -> dict[str, str]:
    """Say which model answers."""
    return {"status": "ok", "model": scorer.model.name, "version": scorer.model.version}


@app.get("/metrics")
async def metrics() -> Response:
    """Give the figures as Prometheus reads them."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
