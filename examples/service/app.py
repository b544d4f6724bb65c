"""A scoring service: one model in memory, a journey in, a score out. How to run it stands in README.md."""

import asyncio
import os
from typing import Annotated, Any

import anyio
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Histogram, generate_latest
from pydantic import BaseModel, Field, ValidationError
from starlette.requests import ClientDisconnect

import cxml

DEFAULTS = {"MAX_BYTES": 1 << 20, "MAX_EVENTS": 5000, "MAX_WAITING": 32, "BODY_SECONDS": 10}
MAX_BYTES, MAX_EVENTS, MAX_WAITING, BODY_SECONDS = (int(os.environ.get(f"CXML_{k}", v)) for k, v in DEFAULTS.items())
scorer = cxml.load(os.environ["CXML_MODEL"], warm=True)  # compiled before the first request
places, at_work = asyncio.Semaphore(MAX_WAITING), anyio.CapacityLimiter(os.cpu_count() or 1)
app = FastAPI(title="cxml", docs_url=None, redoc_url=None, openapi_url=None)
answers = Counter("cxml_answers_total", "Answers of /score", ["code"])
seconds = Histogram("cxml_score_seconds", "Seconds to score a journey", buckets=[0.0003, 0.001, 0.003, 0.01, 0.1, 1])


class Question(BaseModel, extra="forbid", strict=True):
    """What a request may hold."""

    events: Annotated[list[dict[str, Any]], Field(max_length=MAX_EVENTS)]
    at: str | int | None = None
    customer: dict[str, Any] | None = None
    reasons: Annotated[int, Field(ge=0, le=10)] = 3


async def read(request: Request) -> bytes:
    """Read no more than the limit, and not for ever."""
    content = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                content += chunk
                if len(content) > MAX_BYTES:
                    raise HTTPException(413, f"a request has at most {MAX_BYTES} bytes")
    except (TimeoutError, ClientDisconnect):
        raise HTTPException(408, f"the request did not come whole within {BODY_SECONDS} seconds") from None
    return bytes(content)


def score(body: bytes) -> dict[str, Any]:
    """Check what was asked, and answer it."""
    try:
        asked = Question.model_validate_json(body)
        with seconds.time():
            return scorer.score(asked.events, asked.at, customer=asked.customer, reasons=asked.reasons)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        raise HTTPException(422, "; ".join(f"{'.'.join(map(str, f['loc']))}: {f['msg']}" for f in faults)) from None
    except (cxml.DataError, cxml.ConfigError) as error:
        raise HTTPException(422, str(error)) from None


@app.post("/score")
async def answer(request: Request) -> Response:
    """Score a journey, or turn it away at once where too many are waiting."""
    try:
        if places.locked():
            raise HTTPException(503, "busy; try again", {"Retry-After": "1"})
        async with places:
            content = await anyio.to_thread.run_sync(score, await read(request), limiter=at_work)
    except HTTPException as refusal:
        answers.labels(refusal.status_code).inc()
        raise
    answers.labels(200).inc()
    return JSONResponse(content)


@app.get("/health")
async def health() -> dict[str, str]:
    """Say which model answers."""
    return {"status": "ok", "model": scorer.model.name, "version": scorer.model.version}


@app.get("/metrics")
async def metrics() -> Response:
    """Give the figures as Prometheus reads them."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
