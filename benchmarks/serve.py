"""Measure the serving of one journey: inside a process, kept warm, by MLflow's pyfunc, and by `mlflow models serve`.

    python benchmarks/serve.py [--quick]

The model is the shipped one (churn at three horizons, NPS), the journey has 200 events and comes as a list of dicts
that was just parsed from JSON, which is not timed. Every case is a fresh process; journeys differ from call to call.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
MODEL = REPOSITORY / "models" / "telecom_demo"
ABOUT = {"plan": "basic", "region": "north", "acquisition": "search"}
N_EVENTS = 200
TOUCHPOINTS = (
    "login", "login", "order", "call", "chat", "invoice", "email", "self_service", "complaint", "survey_sent",
    "survey_answer", "delivered", "campaign_offer",
)  # fmt: skip


def journey(seed: int) -> list[dict[str, Any]]:
    """Make the events of one customer up, each with what such an event has."""
    rng, at, events = random.Random(seed), datetime(2024, 1, 3, 8), []
    for _ in range(N_EVENTS):
        at += timedelta(seconds=rng.randint(600, 172_800))
        what = rng.choice(TOUCHPOINTS)
        event: dict[str, Any] = {"customer_id": 7, "timestamp": f"{at.isoformat()}Z", "touchpoint": what}
        event["channel"] = rng.choice(["app", "web", "phone", "email"])
        if what in ("order", "invoice"):
            event["value"] = round(rng.uniform(5, 200), 2)
        if what in ("call", "chat"):
            event |= {"duration": float(rng.randint(30, 2000)), "case_id": f"c{rng.randint(1, 9)}"}
            event["resolved"] = rng.random() < 0.5
        if what == "survey_answer":
            event["score"] = rng.randint(0, 10)
        events.append(event)
    return events


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Do some work; give its wall time and the processor time of the thread, in seconds."""
    began, used = time.perf_counter(), time.thread_time()
    work()
    return time.perf_counter() - began, time.thread_time() - used


def spread(took: list[tuple[float, float]]) -> dict[str, float]:
    """Give median and 99th percentile of wall time, and the latter of processor time, in microseconds."""
    wall, used = (sorted(of) for of in zip(*took, strict=True))
    at = int(0.99 * len(wall))
    return {"median": 1e6 * wall[len(wall) // 2], "p99": 1e6 * wall[at], "p99_cpu": 1e6 * used[at]}


def run_scorer(calls: int) -> dict[str, Any]:
    """Give full answers, in one process that does nothing else."""
    import cxml

    scorer = cxml.load(MODEL, warm=True)
    texts = [json.dumps(journey(seed)) for seed in range(200)]
    found: dict[str, Any] = {}
    for name, reasons in (("no reasons", 0), ("three reasons", 3)):
        took = []
        for call in range(calls + 100):
            events = json.loads(texts[call % len(texts)])
            took.append(timed(partial(scorer.score, events, customer=ABOUT, reasons=reasons)))
        found[name] = spread(took[100:])
    columns = []
    for text in texts:
        events = json.loads(text)
        columns.append({name: [event.get(name) for event in events] for name in {n for event in events for n in event}})
    took = []
    for call in range(calls + 100):
        took.append(timed(partial(scorer.score, columns[call % len(columns)], customer=ABOUT, reasons=0)))
    found["columns"] = spread(took[100:])
    found["rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def run_warm(calls: int) -> dict[str, Any]:
    """Keep a customer warm: an event comes, and a score is asked for."""
    import cxml

    scorer = cxml.load(MODEL, warm=True)
    took: list[tuple[float, float]] = []
    seed = 0
    while len(took) < calls + 100:
        events = journey(seed)
        warm = scorer.customer(7, events[:-50], customer=ABOUT)
        for event in events[-50:]:
            took.append(timed(partial(add_and_score, warm, event)))
        seed += 1
    return {"warm": spread(took[100:]), "warm_bytes": warm.n_bytes}


def add_and_score(warm: Any, event: dict[str, Any]) -> None:
    warm.add(event)
    warm.score(reasons=0)


def run_load(calls: int) -> dict[str, Any]:
    """Load the model: the first time, with all imports, and again."""
    began = time.perf_counter()
    import cxml

    cxml.load(MODEL)
    first = time.perf_counter() - began
    again = []
    for _ in range(max(5, calls // 200)):
        began = time.perf_counter()
        cxml.load(MODEL)
        again.append(time.perf_counter() - began)
    return {"first": first, "again": sorted(again)[len(again) // 2]}


def run_first(_: int) -> dict[str, Any]:
    """Score once; the caller looks at the clock."""
    import cxml

    cxml.load(MODEL).score(journey(0), customer=ABOUT, reasons=0)
    return {}


def run_threads(calls: int) -> dict[str, Any]:
    """Count scores a second, by one thread and by two."""
    import cxml

    scorer = cxml.load(MODEL, warm=True)
    journeys = [journey(seed) for seed in range(100)]

    def work(reasons: int, first: int) -> None:
        for call in range(calls):
            scorer.score(journeys[(first + call) % 100], customer=ABOUT, reasons=reasons)

    found: dict[str, Any] = {}
    for name, reasons in (("no reasons", 0), ("three reasons", 3)):
        rates: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(3):
            for n in (1, 2):
                threads = [threading.Thread(target=work, args=(reasons, 50 * i)) for i in range(n)]
                began = time.perf_counter()
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                rates[n].append(n * calls / (time.perf_counter() - began))
        found[name] = {str(n): sorted(of)[1] for n, of in rates.items()}
    return found


def run_pyfunc(calls: int) -> dict[str, Any]:
    """Ask the model as MLflow logs it, in a process and over HTTP."""
    import logging
    import warnings

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    import mlflow
    import pandas as pd

    from cxml.tracking.runs import log_training

    with tempfile.TemporaryDirectory() as folder:
        uri = f"sqlite:///{folder}/mlflow.db"
        os.environ["MLFLOW_TRACKING_URI"] = uri
        os.chdir(folder)
        tracked = log_training(MODEL, uri=uri, experiment="serve", register_as="serve")
        mlflow.set_tracking_uri(uri)
        loaded = mlflow.pyfunc.load_model(tracked.model_uri)
        frames = [pd.DataFrame(journey(seed)).assign(**ABOUT) for seed in range(20)]
        took = []
        for call in range(calls // 20 + 10):
            took.append(timed(partial(loaded.predict, frames[call % 20], params={"reasons": 0})))
        found = {"pyfunc": spread(took[10:])}
        return found | _serve(tracked.model_uri, frames, calls // 40)


def _serve(model_uri: str, frames: list[Any], calls: int) -> dict[str, Any]:
    """Start `mlflow models serve` with one worker, and ask it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).parent / "mlflow"), "models", "serve", "--model-uri", model_uri]
    command += ["--env-manager", "local", "--port", str(port), "--workers", "1"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with Path("serve.log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=os.environ | {"PATH": path}, start_new_session=True
        )
    try:
        began = time.perf_counter()
        while not _answers(f"http://127.0.0.1:{port}/ping"):
            if process.poll() is not None or time.perf_counter() - began > 120:
                raise SystemExit(f"mlflow models serve did not start:\n{Path('serve.log').read_text()[-2000:]}")
            time.sleep(0.2)
        ready = time.perf_counter() - began
        bodies = [
            json.dumps({"dataframe_split": json.loads(frame.to_json(orient="split", index=False))}).encode()
            for frame in frames
        ]
        took = []
        for call in range(calls + 5):
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/invocations", bodies[call % 20], {"Content-Type": "application/json"}
            )
            took.append(timed(partial(_fetch, request)))
        return {"served": spread(took[5:]), "served_ready_s": ready}
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


def _fetch(request: urllib.request.Request) -> bytes:
    with urllib.request.urlopen(request, timeout=60) as answer:
        return bytes(answer.read())


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


CASES = {
    "scorer": run_scorer, "warm": run_warm, "load": run_load, "first": run_first, "threads": run_threads,
    "pyfunc": run_pyfunc,
}  # fmt: skip


def fresh(case: str, calls: int) -> tuple[dict[str, Any], float]:
    """Run a case in a process of its own; give its figures and its wall time."""
    command = [sys.executable, __file__, "--case", case, "--calls", str(calls)]
    began = time.perf_counter()
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    took = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{case}: {done.stderr}")
    return json.loads(done.stdout.splitlines()[-1]), took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the calls, to see that it runs")
    parser.add_argument("--no-mlflow", action="store_true", help="leave MLflow's two cases out")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--calls", type=int, default=2_000, help="calls of the cases in a process")
    given = parser.parse_args()
    if given.case:
        print(json.dumps(CASES[given.case](given.calls)))
        return
    calls = given.calls // 10 if given.quick else given.calls
    fresh("first", calls)  # fills the cache of compiled code
    first = sorted(fresh("first", calls)[1] for _ in range(5))[2]
    scorer, warm, load, threads = (fresh(case, calls)[0] for case in ("scorer", "warm", "load", "threads"))
    plain, reasoned = scorer["no reasons"], scorer["three reasons"]

    def line(what: str, found: str, aim: str = "") -> None:
        print(f"| {what} | {found} | {aim} |")

    def us(case: dict[str, float]) -> str:
        return f"{case['median']:,.0f} us, p99 {case['p99']:,.0f} us (of processor time {case['p99_cpu']:,.0f} us)"

    line("one journey of 200 events", "median", "aim")
    line("---", "---", "---")
    line("full answer, list of dicts, no reasons", us(plain), "200 us, p99 1,000 us")
    line("the same, dict of columns", us(scorer["columns"]))
    line("full answer with three reasons", us(reasoned), "2,000 us")
    line("warm customer, add and score, no reasons", us(warm["warm"]))
    line("warm customer, memory of 200 events", f"{warm['warm_bytes'] / 1000:.0f} kB")
    line("load, imports done", f"{load['again']:.3f} s", "0.3 s")
    line("import and load", f"{load['first']:.2f} s")
    line("interpreter start to first score", f"{first:.2f} s", "2.5 s")
    line("memory of a process that only scores", f"{scorer['rss_mb']:.0f} MB", "300 MB")
    for name, rates in threads.items():
        ratio = rates["2"] / rates["1"]
        line(f"two threads, {name}", f"{rates['1']:,.0f} to {rates['2']:,.0f} scores/s, {ratio:.2f} x", "1.6 x")
    if given.no_mlflow:
        return
    other = fresh("pyfunc", calls)[0]
    pyfunc, served = other["pyfunc"], other["served"]
    line("logged pyfunc, no reasons", us(pyfunc))
    line("mlflow models serve, three reasons", f"{served['median']:,.0f} us, p99 {served['p99']:,.0f} us")
    line("pyfunc / scorer, no reasons", f"{pyfunc['median'] / plain['median']:.0f} x", "50 x")
    line("mlflow models serve / scorer, three reasons", f"{served['median'] / reasoned['median']:.0f} x", "200 x")


if __name__ == "__main__":
    main()
