"""Runs the harness in a process of its own: its packages are not the project's.

Reads a list of arguments of models from standard input, as JSON, and writes the harness' answers.
"""

import json
import sys
from typing import Any


def main(folder: str, out: str) -> None:
    """Evaluate each model on every task of ``folder``, and write what was found to ``out``."""
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.tasks import TaskManager

    # Without the thousands of tasks that come along, which take many seconds to list.
    manager = TaskManager(include_path=folder, include_defaults=False)
    found = []
    for arguments in json.load(sys.stdin):
        batch_size = arguments.pop("batch_size", 1)
        answer: Any = simple_evaluate(
            "local-completions",
            model_args=arguments,
            batch_size=batch_size,
            tasks=manager.all_tasks,
            task_manager=manager,
            log_samples=True,
            bootstrap_iters=0,
        )
        samples = {
            task: [sample["resps"] for sample in sorted(lines, key=lambda line: line["doc_id"])]
            for task, lines in answer["samples"].items()
        }
        found.append({"results": answer["results"], "answers": samples})
    with open(out, "w", encoding="utf-8") as file:
        json.dump(found, file, default=str)


if __name__ == "__main__":
    main(*sys.argv[1:])
