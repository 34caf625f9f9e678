"""API keys: default deny, hashed, named in turns and in the log, and nowhere else."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog
from fastapi import Request
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from app.application import create_app
from app.cli import app as command
from app.connection import peer
from app.errors import ForbiddenError
from app.keys import Key, Keyring, KeysError, load_keys, new_key, parse_keys, require_admin
from app.settings import Settings
from tests.app.conftest import wait_until_ready

KEY, STORED = new_key("phone")
OTHER, STORED_OTHER = new_key("tablet", "admin")
OPEN = {"/health", "/ready"}
BODY = {"text": "we", "top_k": 1}


@pytest.fixture(scope="module")
def keyed(models_dir, tmp_path_factory) -> Iterator[TestClient]:
    """A service with two keys, one of the environment and one of a file."""
    path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text(f"# who may ask\n\n{STORED_OTHER.line()}\n")
    settings = Settings(models_dir=models_dir, api_keys=STORED.line(), api_keys_file=path)
    with TestClient(create_app(settings)) as client:
        wait_until_ready(client)
        yield client


def _not_told(_: str) -> str:
    """Name cases alike in every process: keys are random."""
    return "key"


def check_denied(response, challenge: str) -> None:
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == challenge
    if response.url.path.startswith("/v1/"):  # in OpenAI's words
        assert response.json()["error"]["type"] == "authentication_error"
    else:
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["status"] == 401
    assert "nw_" not in response.text


NO_KEY = 'Bearer realm="nextword"'
WRONG_KEY = NO_KEY + ', error="invalid_token"'


def test_every_operation_is_denied_without_a_key_but_health_and_readiness(keyed: TestClient):
    schema = keyed.get("/openapi.json", headers={"x-api-key": KEY}).json()
    operations = [(m, p) for p, item in schema["paths"].items() for m in item]
    assert len(operations) >= 12
    for method, path in operations:
        response = keyed.request(method, path, json={} if method == "post" else None)
        if path in OPEN:
            assert response.status_code == 200
        else:
            check_denied(response, NO_KEY)
            operation = schema["paths"][path][method]
            assert operation["security"] == [{"bearer": []}, {"apiKey": []}]
            declared = operation["responses"]["401"]
            assert "WWW-Authenticate" in declared["headers"]
            assert response.headers["content-type"] in declared["content"]
            if path.startswith("/v1/"):
                schema_of = declared["content"]["application/json"]["schema"]
                assert schema_of == {"$ref": "#/components/schemas/OpenAIError"}
    assert schema["components"]["securitySchemes"].keys() == {"bearer", "apiKey"}


CLOSED = ["/docs", "/openapi.json", "/metrics", "/nothing", "//health", "/health/", "/HEALTH"]
CLOSED += ["/health%2f..%2fmetrics", "/ready/../metrics", "/%68ealth/x", "/"]


@pytest.mark.parametrize("path", CLOSED)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "HEAD", "DELETE"])
def test_what_is_not_known_to_be_open_is_closed(keyed: TestClient, method, path):
    assert keyed.request(method, path).status_code == 401


def test_documentation_and_metrics_are_open_where_that_is_set(models_dir):
    settings = Settings(
        models_dir=models_dir, api_keys=STORED.line(), public_docs=True, public_metrics=True
    )
    with TestClient(create_app(settings)) as client:
        for path in ("/docs", "/openapi.json", "/metrics"):
            assert client.get(path).status_code == 200
        assert client.get("/models").status_code == 401
        assert "security" not in client.get("/openapi.json").json()["paths"]["/metrics"]["get"]


@pytest.mark.parametrize("key", [KEY, OTHER], ids=["first", "other"])
@pytest.mark.parametrize(
    "header", ["Bearer {}", "bearer {}", "BEARER  {} ", None], ids=lambda h: str(h)
)
def test_a_key_is_taken_in_both_headers(keyed: TestClient, key, header):
    headers = {"x-api-key": key} if header is None else {"authorization": header.format(key)}
    assert keyed.post("/next-word", json=BODY, headers=headers).status_code == 200


def test_a_proxys_own_authorization_leaves_room_for_a_key(keyed: TestClient):
    headers = {"authorization": "Basic dXNlcjpwYXNz", "x-api-key": KEY}
    assert keyed.post("/next-word", json=BODY, headers=headers).status_code == 200
    check_denied(keyed.get("/models", headers={"authorization": "Basic eDp5"}), NO_KEY)


@pytest.mark.parametrize(
    "wrong",
    [
        KEY[:-1],
        KEY + "a",
        KEY.upper(),
        f"{KEY},{KEY}",
        STORED.digest.hex(),
        STORED.line(),
        "x",
        "phone",
        "a" * 257,
        "a" * 60000,
        KEY + "é",
        "null",
        "*",
    ],
    ids=_not_told,
)
@pytest.mark.parametrize("header", ["x-api-key", "authorization"])
def test_no_other_key_will_do(keyed: TestClient, wrong, header):
    value = ("Bearer " if header == "authorization" else "") + wrong
    response = keyed.get("/models", headers=[(header.encode(), value.encode())])
    check_denied(response, WRONG_KEY)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_no_key(presented):
    assert Keyring([STORED, STORED_OTHER]).find(presented) is None
    assert Keyring([STORED]).find(KEY.encode()) is STORED


def test_a_denied_request_costs_no_reading_of_its_body(keyed: TestClient):
    def pieces():
        yield b'{"text": "'
        raise AssertionError("the body was read")

    scope = {"type": "http", "method": "POST", "path": "/score", "headers": []}
    sent = []

    async def receive():
        return next(pieces())

    async def send(message):
        sent.append(message)

    import asyncio

    asyncio.run(keyed.app(scope, receive, send))
    assert sent[0]["status"] == 401


def test_clients_take_turns_by_key(keyed: TestClient, monkeypatch):
    clients = []
    engine = keyed.app.state.driver
    run = engine.run

    async def noting(*args, **options):
        clients.append(options["client"])
        return await run(*args, **options)

    monkeypatch.setattr(engine, "run", noting)
    for key in (KEY, OTHER, KEY):
        keyed.post("/next-word", json=BODY, headers={"x-api-key": key})
    assert clients == ["key:phone", "key:tablet", "key:phone"]
    request = Request({"type": "http", "client": ("10.0.0.7", 1), "state": {"client": "key:a"}})
    assert peer(request) == "key:a"


def test_the_log_names_the_key_and_never_shows_it(keyed: TestClient):
    with structlog.testing.capture_logs() as lines:
        keyed.post("/next-word", json=BODY, headers={"x-api-key": KEY})
        keyed.post("/next-word", json=BODY, headers={"x-api-key": KEY + "x"})
    assert [line.get("key") for line in lines] == ["phone", None]
    assert KEY not in str(lines)


def test_only_an_admins_key_passes_require_admin():
    def request(**state: object) -> Request:
        return Request({"type": "http", "state": state})

    require_admin(request(key=STORED_OTHER))
    for refused in (request(key=STORED), request(), request(key="admin")):
        with pytest.raises(ForbiddenError):
            require_admin(refused)
    with pytest.raises(ForbiddenError):
        require_admin(Request({"type": "http"}))


def test_a_key_is_256_random_bits_and_stored_as_its_digest():
    keys = {new_key("a")[0] for _ in range(100)}
    assert len(keys) == 100
    assert all(len(key) == 46 and key.startswith("nw_") for key in keys)
    assert STORED.digest == hashlib.sha256(KEY.encode()).digest()
    assert parse_keys([STORED.line()], "x") == [STORED]
    for name, role in (("", "user"), ("a b", "user"), ("a:b", "user"), ("a" * 65, "user")):
        with pytest.raises(KeysError, match="name"):
            new_key(name, role)
    with pytest.raises(KeysError, match="role"):
        new_key("a", "root")


def test_the_command_prints_a_key_once_and_the_line_to_store():
    done = CliRunner().invoke(command, ["keys", "new", "phone", "--role", "admin"])
    assert done.exit_code == 0
    key, line = done.stdout.split()
    (stored,) = parse_keys([line], "x")
    assert (stored.name, stored.role) == ("phone", "admin")
    assert Keyring([stored]).find(key.encode()) is stored
    assert CliRunner().invoke(command, ["keys", "new", "a b"]).exit_code == 2


SECRET_LINE = "phone:user:plain-secret"


@pytest.mark.parametrize(
    "line",
    [
        SECRET_LINE,
        "phone",
        f"{STORED.line()}0",
        STORED.line().upper(),
        "a:root:sha256:" + "0" * 64,
        "a b:user:sha256:" + "0" * 64,
        KEY,
    ],
    ids=_not_told,
)
def test_a_line_that_is_none_is_refused_and_not_repeated(line, tmp_path):
    path = tmp_path / "keys"
    path.write_text(f"# keys\n{line}\n")
    with pytest.raises(KeysError) as raised:
        create_app(Settings(api_keys_file=path))
    assert f"{path}: entry 2" in str(raised.value)
    assert line not in str(raised.value)


def test_keys_that_are_meant_and_missing_are_no_open_door(tmp_path):
    (tmp_path / "empty").write_text("# none yet\n")
    (tmp_path / "latin").write_bytes(b"\xff\n")
    for name in ("missing", "empty", "latin", "."):
        with pytest.raises(KeysError, match=str(tmp_path)):
            load_keys(Settings(api_keys_file=tmp_path / name))
    for nothing in (",", " ", "\n", f"#{STORED.line()}"):
        with pytest.raises(KeysError, match="NEXTWORD_API_KEYS: holds no key"):
            load_keys(Settings(api_keys=nothing))
    with pytest.raises(KeysError, match="twice"):
        load_keys(Settings(api_keys=f"{STORED.line()} {STORED.line()}"))
    both = Settings(api_keys=f"{STORED.line()}, {STORED_OTHER.line()}")
    assert len(load_keys(both)) == 2
    assert STORED.line() not in repr(both)
    assert not load_keys(Settings())


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_service_does_not_start_with_keys_that_cannot_be_used(tmp_path, workers):
    arguments = [sys.executable, "-c", "from app.cli import main; main()", "serve"]
    done = subprocess.run(
        [*arguments, "--models-dir", str(tmp_path), "--workers", workers, "--port", "0"],
        env={"PATH": "", "PYTHONPATH": ":".join(sys.path), "NEXTWORD_API_KEYS": SECRET_LINE},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert "NEXTWORD_API_KEYS: entry 1" in done.stderr
    assert "plain-secret" not in done.stdout + done.stderr


def test_keys_of_one_name_share_what_is_counted(models_dir):
    again, stored = new_key("phone")
    keys = f"{STORED.line()} {stored.line()}"
    settings = Settings(models_dir=models_dir, api_keys=keys, requests_per_minute=2)
    with TestClient(create_app(settings)) as client:
        statuses = [
            client.get("/nothing", headers={"x-api-key": key}).status_code
            for key in (KEY, again, KEY)
        ]
    assert statuses == [404, 404, 429]
    assert isinstance(stored, Key)
