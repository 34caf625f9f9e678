"""The child's end of a `Worker`: commands come in, one line of JSON each, and answers go out."""

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

Handlers = Mapping[str, Callable[..., Any]]


def answer_commands(handlers: Handlers) -> None:
    """Answer until the parent closes the pipe.

    Args:
        handlers: What to do for each command. ImportError means that it cannot be done here.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no answer
    print(json.dumps({"result": "ready"}), file=answers)
    for line in sys.stdin:
        command = json.loads(line)
        try:
            result = handlers[command.pop("do")](**command)
        except ImportError as error:
            print(json.dumps({"missing": str(error)}), file=answers)
        except Exception as error:
            print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=answers)
        else:
            print(json.dumps({"result": result}), file=answers)
