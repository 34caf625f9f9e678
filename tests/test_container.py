"""The container files, read rather than built: what they promise, and what they name."""

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
INSTRUCTIONS = [
    line for line in re.sub(r"\\\n", " ", DOCKERFILE).splitlines() if re.match(r"[A-Z]+ ", line)
]


def test_everything_copied_is_in_the_clone_and_reaches_the_build() -> None:
    allowed = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copies = [i for i in INSTRUCTIONS if i.startswith("COPY ") and "--from" not in i]
    assert copies
    for copy in copies:
        for source in shlex.split(copy)[1:-1]:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in allowed, source


def test_the_image_runs_as_a_number_and_checks_itself() -> None:
    assert INSTRUCTIONS[-1].startswith("CMD ")
    command = json.loads(INSTRUCTIONS[-1].removeprefix("CMD "))
    assert command == ["nextword", "serve"]
    (user,) = (i.split()[1] for i in INSTRUCTIONS if i.startswith("USER "))
    assert int(user.partition(":")[0]) > 0
    assert any(i.startswith("HEALTHCHECK ") and "/ready" in i for i in INSTRUCTIONS)


def test_compose_grants_nothing_that_the_service_does_not_need() -> None:
    service = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"][
        "nextword"
    ]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


@pytest.mark.parametrize(
    "path",
    [f"requirements{part}.txt" for part in ("", "-train", "-dev", "-lm-eval")],
)
def test_locks_hold_names_and_versions_only(path: str) -> None:
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    locked = [line for line in lines if line and not line.startswith("#")]
    assert locked
    for line in locked:
        assert re.fullmatch(r"[a-z0-9._-]+==[0-9][A-Za-z0-9.]*", line), line
