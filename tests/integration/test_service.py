"""The service example, started for real on a free port and asked over HTTP."""

import http.client
import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import cxml

REPOSITORY = Path(__file__).parents[2]
SHIPPED, EXAMPLE = REPOSITORY / "models" / "telecom_demo", REPOSITORY / "examples" / "service"
EVENTS = [
    {"customer_id": 7, "timestamp": f"2024-05-{day:02}T10:00:00Z", "touchpoint": what}
    for day, what in enumerate(["signup", "login", "order", "call", "complaint"], start=1)
]

pytestmark = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("fastapi", "uvicorn", "prometheus_client")),
    reason="no fastapi, uvicorn or prometheus_client; install them with: pip install 'cxml[service]'",
)


class Service:
    """A service that runs."""

    def __init__(self, log: Path, **settings: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        environment = os.environ | {"CXML_MODEL": str(SHIPPED), **settings}
        command = [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLE), "app:app", "--port", str(self.port)]
        with log.open("w") as output:
            self.process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, cwd=REPOSITORY)
        self.log = log

    def wait(self) -> None:
        for _ in range(600):
            try:
                assert self.ask("GET", "/health")[0] == 200
                return
            except OSError:
                assert self.process.poll() is None, self.log.read_text()
                time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def score(self, **asked):
        status, answer = self.ask("POST", "/score", json.dumps(asked))
        return status, json.loads(answer)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    running = []

    def start(**settings: str) -> Service:
        service = Service(tmp_path_factory.mktemp("service") / "log.txt", **settings)
        running.append(service)
        service.wait()
        return service

    yield start
    for service in running:
        service.stop()


@pytest.fixture(scope="module")
def service(start):
    return start(CXML_MAX_EVENTS="50", CXML_MAX_BYTES="20000", CXML_MAX_WAITING="2", CXML_BODY_SECONDS="2")


def test_it_answers_what_the_scorer_answers(service):
    scorer = cxml.load(SHIPPED)
    about = {"plan": "basic", "region": "north"}
    assert service.score(events=EVENTS, at="2024-06-01", customer=about) == (
        200,
        scorer.score(EVENTS, "2024-06-01", customer=about),
    )
    assert service.score(events=EVENTS, reasons=0) == (200, scorer.score(EVENTS, reasons=0))


def test_health_names_the_model(service):
    status, answer = service.ask("GET", "/health")
    manifest = json.loads((SHIPPED / "model.json").read_text())
    assert (status, json.loads(answer)["version"]) == (200, manifest["version"])


@pytest.mark.parametrize(
    ("asked", "code", "says"),
    [
        ({"events": [EVENTS[0] | {"timestamp": "soon"}]}, 422, "record 1: timestamp is not readable"),
        ({"events": [*EVENTS, EVENTS[0] | {"touchpoint": "survey_answer", "score": 77}]}, 422, "record 6: score"),
        ({"events": []}, 422, "at least one event"),
        ({"events": "all"}, 422, "events: Input should be a valid array"),
        ({"events": ["login"]}, 422, "events.0: Input should be an object"),
        ({"events": EVENTS, "at": "2020-01-01"}, 422, "at or after the cutoff"),
        ({"events": EVENTS, "customer": {"plann": "x"}}, 422, "did you mean 'plan'"),
        ({"events": EVENTS, "customer": "x"}, 422, "customer: Input should be an object"),
        ({"events": EVENTS, "reasons": 11}, 422, "reasons: Input should be less than or equal to 10"),
        ({"events": EVENTS, "reasons": True}, 422, "reasons: Input should be a valid integer"),
        ({"events": EVENTS, "model": "x"}, 422, "model: Extra inputs are not permitted"),
        ({"events": EVENTS * 11}, 422, "events: List should have at most 50 items"),
    ],
)
def test_what_is_wrong_is_said_with_a_code(service, asked, code, says):
    status, answer = service.score(**asked)
    assert status == code
    assert says in answer["detail"]


@pytest.mark.parametrize(
    ("body", "code"), [("{", 422), ("", 422), ("[" * 9_000, 422), ("x" * 20_001, 413), ("[1]", 422), ('"events"', 422)]
)
def test_a_body_that_is_no_question_is_refused(service, body, code):
    assert service.ask("POST", "/score", body)[0] == code


def open_request(service):
    """Begin a request, and leave it unfinished."""
    unfinished = socket.create_connection(("127.0.0.1", service.port))
    unfinished.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    return unfinished


def test_more_requests_than_may_wait_are_turned_away_and_then_it_recovers(service):
    held = [open_request(service) for _ in range(2)]
    try:
        for _ in range(100):
            status, answer = service.score(events=EVENTS)
            if status == 503:
                break
        assert (status, answer) == (503, {"detail": "busy; try again"})
        assert service.ask("GET", "/health")[0] == 200
        for unfinished in held:
            unfinished.settimeout(20)
            assert b" 408 " in unfinished.recv(4096)  # nobody may hold a place for ever
    finally:
        for unfinished in held:
            unfinished.close()
    assert service.score(events=EVENTS)[0] == 200


def test_one_who_leaves_gives_the_place_back(service):
    for _ in range(5):
        open_request(service).close()
    for _ in range(100):
        if service.score(events=EVENTS)[0] == 200:
            break
        time.sleep(0.02)
    assert service.score(events=EVENTS)[0] == 200


def test_metrics_count_the_answers_by_code(service):
    def count(code):
        text = service.ask("GET", "/metrics")[1]
        lines = [line for line in text.splitlines() if line.startswith(f'cxml_answers_total{{code="{code}"}}')]
        return float(lines[0].split()[-1]) if lines else 0.0

    before = count(200), count(422)
    service.score(events=EVENTS)
    service.score(events=[])
    assert (count(200), count(422)) == (before[0] + 1, before[1] + 1)
    assert "cxml_score_seconds_bucket" in service.ask("GET", "/metrics")[1]


def test_many_clients_at_once_get_right_answers_or_are_turned_away(service):
    expected, answers = cxml.load(SHIPPED).score(EVENTS), []

    def ask():
        for _ in range(20):
            answers.append(service.score(events=EVENTS))

    clients = [threading.Thread(target=ask) for _ in range(6)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert len(answers) == 120
    assert {status for status, _ in answers} <= {200, 503}
    assert all(answer == expected for status, answer in answers if status == 200)
    assert any(status == 200 for status, _ in answers)


def test_it_loads_no_training_package(service):
    loaded = Path(f"/proc/{service.process.pid}/maps")
    if not loaded.exists():
        pytest.skip("no /proc here")
    text = loaded.read_text()
    assert "numpy" in text
    assert not [name for name in ("lightgbm", "duckdb", "pandas", "pyarrow", "sklearn") if f"/{name}/" in text]


def test_the_load_script_reports_what_it_saw(service):
    command = [sys.executable, str(EXAMPLE / "load.py"), f"http://127.0.0.1:{service.port}", "--clients", "1"]
    done = subprocess.run([*command, "--seconds", "0.5", "--events", "20"], capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    assert report["answers"].keys() == {"200"}
    assert report["scores_per_s"] > 1
