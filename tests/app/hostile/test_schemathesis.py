"""Schemathesis over the whole published description, with all its checks, on a running service."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.app.test_server import served, wait_for

ROOT = Path(__file__).parents[3]
OPTIONS = ["--checks=all", "--max-examples=8", "--max-time=60", "--seed=1", "--no-color"]


@pytest.mark.slow
def test_the_service_does_what_its_description_says(models_dir: Path, tmp_path: Path):
    with served(models_dir, tmp_path, MAX_TOKENS="64") as (process, client, log):
        wait_for(client, process, "/ready")
        arguments = [sys.executable, "-W", "ignore", "-m", "schemathesis.cli"]
        arguments += ["--config-file", str(ROOT / "tests/app/hostile/schemathesis.toml"), "run"]
        arguments += [f"{client.base_url}/openapi.json", *OPTIONS]
        done = subprocess.run(
            arguments,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"},
            capture_output=True,
            text=True,
            timeout=240,
        )
        report = "\n".join(line[:400] for line in done.stdout.splitlines())
        assert done.returncode == 0, report[-6000:] + done.stderr[-2000:]
        tested = len(client.get("/openapi.json").json()["paths"])
        assert f"Tested: {tested}" in report
        assert client.get("/health").status_code == 200
        assert '"bug"' not in log.read_text()
