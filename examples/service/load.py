"""Load the service with journeys of 200 events: how many a second, how long each takes, how many are turned away.

    python examples/service/load.py http://127.0.0.1:8000 --clients 4 --seconds 10

Each client is a thread with one connection that asks again as soon as it is answered. Clients take processor time too:
on one machine with the service, read the figures as a lower bound.
"""

import argparse
import collections
import datetime as dt
import http.client
import json
import random
import threading
import time
from urllib.parse import urlsplit

TOUCHPOINTS = ("login", "login", "order", "call", "chat", "invoice", "email", "complaint", "survey_sent")


def journey(n_events: int, seed: int) -> list[dict[str, object]]:
    """Make a journey up."""
    rng, at, events = random.Random(seed), dt.datetime(2024, 1, 1), []
    for _ in range(n_events):
        at += dt.timedelta(seconds=rng.randint(600, 172_800))
        event = {"customer_id": seed, "timestamp": f"{at.isoformat()}Z", "touchpoint": rng.choice(TOUCHPOINTS)}
        if event["touchpoint"] in ("order", "invoice"):
            event["value"] = round(rng.uniform(5, 200), 2)
        if event["touchpoint"] in ("call", "chat"):
            event |= {"channel": "phone", "duration": rng.randint(30, 2000), "case_id": f"c{rng.randint(1, 9)}"}
        events.append(event)
    return events


def ask(url: str, bodies: list[bytes], until: float, found: list[tuple[int, float]]) -> None:
    """Ask one question after the other."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "127.0.0.1", place.port, timeout=30)
    number = 0
    while time.perf_counter() < until:
        began = time.perf_counter()
        connection.request("POST", "/score", bodies[number % len(bodies)], {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        found.append((answer.status, time.perf_counter() - began))
        number += 1
    connection.close()


def load(url: str, clients: int, seconds: float, reasons: int, n_events: int) -> dict[str, object]:
    """Ask with so many clients at once, and say how it went."""
    bodies = [json.dumps({"events": journey(n_events, seed), "reasons": reasons}).encode() for seed in range(50)]
    found: list[tuple[int, float]] = []
    until = time.perf_counter() + seconds
    threads = [threading.Thread(target=ask, args=(url, bodies, until, found)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = sorted(took for status, took in found if status == 200) or [float("nan")]
    return {
        "clients": clients,
        "answers": dict(collections.Counter(status for status, _ in found)),
        "scores_per_s": round(sum(status == 200 for status, _ in found) / seconds, 1),
        "median_ms": round(1e3 * took[len(took) // 2], 2),
        "p99_ms": round(1e3 * took[int(0.99 * len(took))], 2),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--reasons", type=int, default=3)
    parser.add_argument("--events", type=int, default=200)
    given = parser.parse_args()
    print(json.dumps(load(given.url, given.clients, given.seconds, given.reasons, given.events)))
