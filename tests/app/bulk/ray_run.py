"""What tests/app/bulk/test_ray.py runs in a network of its own: Ray listens on every address.

Usage: python -m tests.app.bulk.ray_run CHECKPOINT FOLDER KILL
"""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path


def killer(seen: Path, killed: list[int]) -> None:
    """Kill one worker with SIGKILL when it has scored something."""
    while not (workers := sorted(seen.glob("*"))):
        time.sleep(0.02)
    pid = int(workers[0].name)
    os.kill(pid, signal.SIGKILL)
    killed.append(pid)


def main() -> None:
    checkpoint, folder, kill = sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "kill"
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    import ray

    from app.bulk import ray as bulk

    seen = folder / "seen"
    seen.mkdir()
    call = bulk.Scorer.__call__

    class Slow(bulk.Scorer):
        """Leaves a sign that it works, and takes its time."""

        def __call__(self, texts):
            scored = call(self, texts)
            (seen / str(os.getpid())).touch()
            time.sleep(0.05)
            return scored

    bulk.Scorer = Slow
    ray.init(
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=100 << 20,
        _node_ip_address="127.0.0.1",
        log_to_driver=False,
    )
    killed: list[int] = []
    if kill:
        threading.Thread(target=killer, args=(seen, killed), daemon=True).start()
    texts = bulk.read(str(folder / "in"))
    scored = bulk.score_dataset(texts, checkpoint, workers=2, batch_size=100)
    scored.write_parquet(str(folder / "out"))
    pids = {int(path.name) for path in seen.glob("*")}
    sys.stdout.write(f"killed {len(killed)} of {len(pids)}\n")
    ray.shutdown()


if __name__ == "__main__":
    main()
