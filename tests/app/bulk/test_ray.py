"""Ray's rows are the command's, also when a worker is killed on the way.

Ray is large, and so not among what scripts/test installs; docs/bulk.md says how to run this.
"""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from models.forward import run_all
from models.score import score
from tests.app.conftest import SUBWORD, sentences

ALONE = ["unshare", "--net", "--map-root-user"]


def network_of_its_own() -> bool:
    """Whether a process may have a network in which nobody else is."""
    if not shutil.which("unshare") or not shutil.which("ip"):
        return False
    command = [*ALONE, "ip", "link", "set", "lo", "up"]
    return subprocess.run(command, capture_output=True).returncode == 0


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: docs/bulk.md"),
]


@pytest.mark.parametrize("kill", ["kill", "leave"])
def test_rows_are_there_once_each(models_dir: Path, models, tmp_path: Path, kill):
    if not network_of_its_own():
        pytest.skip("the kernel allows no network of our own, and Ray listens on every address")
    parquet = pytest.importorskip("pyarrow.parquet")
    rng = sentences(5000)
    (tmp_path / "in").mkdir()
    for part in range(10):
        lines = [
            json.dumps({"id": i, "text": rng[i] if i % 97 else "a" * 20_000})
            for i in range(part * 500, part * 500 + 500)
        ]
        (tmp_path / "in" / f"{part}.jsonl").write_text("\n".join(lines) + "\n")
    command = [*ALONE, sys.executable, "-m", "tests.app.bulk.ray_run"]
    environment = os.environ | {"RAY_TMPDIR": "/tmp/nextword-ray", "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(
        [*command, str(models_dir / SUBWORD), str(tmp_path), kill],
        capture_output=True,
        text=True,
        timeout=400,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert f"killed {int(kill == 'kill')} of {3 if kill == 'kill' else 2}" in done.stdout
    found = [
        row
        for file in (tmp_path / "out").glob("*.parquet")
        for row in parquet.read_table(file).to_pylist()
    ]
    found.sort(key=lambda row: row["id"])
    assert [row["id"] for row in found] == list(range(5000))
    model = models[SUBWORD]
    some = [i for i in range(5000) if i % 97][:200]
    scores = run_all([score(model, rng[i]) for i in some], model)
    for i, result in zip(some, scores, strict=True):
        assert found[i]["text"] == rng[i]
        assert found[i]["log_prob"] == result.log_prob
    assert all((row["error"] is None) == bool(row["id"] % 97) for row in found)
