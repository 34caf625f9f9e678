"""ONNX Runtime: the LSTM's step as one graph in float32, states in and out."""

import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from benchmarks import sizes
from benchmarks.commands import answer_commands

WIDTH = sizes.LSTM_WIDTH
LAYERS = sizes.LSTM_LAYERS


def _save(path: Path) -> None:
    """Write the graph: embedding, LSTM layers, tied output layer, log-softmax."""
    draw = np.random.default_rng(0)

    def weights(name: str, *shape: int) -> Any:
        values = draw.normal(0, 0.04, shape).astype(np.float32)
        return numpy_helper.from_array(values, name)

    stored = [weights("embedding", sizes.VOCABULARY, WIDTH), weights("bias", sizes.VOCABULARY)]
    nodes = [helper.make_node("Gather", ["embedding", "token_ids"], ["x0"])]  # (T, B, E)
    states = []
    for i in range(LAYERS):
        names = [f"w{i}", f"r{i}", f"b{i}"]
        shapes = [(1, 4 * WIDTH, WIDTH), (1, 4 * WIDTH, WIDTH), (1, 8 * WIDTH)]
        stored += [weights(name, *shape) for name, shape in zip(names, shapes, strict=True)]
        before, after = [f"h{i}", f"c{i}"], [f"h{i}_after", f"c{i}_after"]
        nodes += [
            helper.make_node(
                "LSTM", [f"x{i}", *names, "", *before], [f"y{i}", *after], hidden_size=WIDTH
            ),
            helper.make_node("Squeeze", [f"y{i}", "direction"], [f"x{i + 1}"]),  # (T, B, D)
        ]
        states += [*zip(before, after, strict=True)]
    stored.append(numpy_helper.from_array(np.array([1]), "direction"))
    stored.append(numpy_helper.from_array(np.array([-1, WIDTH]), "flat"))
    nodes += [
        helper.make_node("Reshape", [f"x{LAYERS}", "flat"], ["features"]),  # (B, D)
        helper.make_node("Gemm", ["features", "embedding", "bias"], ["logits"], transB=1),
        helper.make_node("LogSoftmax", ["logits"], ["log_probs"], axis=-1),
    ]

    def vector(name: str) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, "B", WIDTH])

    inputs = [helper.make_tensor_value_info("token_ids", TensorProto.INT64, [1, "B"])]
    outputs = [
        helper.make_tensor_value_info("log_probs", TensorProto.FLOAT, ["B", sizes.VOCABULARY])
    ]
    graph = helper.make_graph(
        nodes,
        "lstm",
        inputs + [vector(before) for before, _ in states],
        outputs + [vector(after) for _, after in states],
        stored,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))


@cache
def _session(path: str, threads: int) -> Any:
    if not Path(path).exists():
        _save(Path(path))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def step(path: str, threads: int, steps: int) -> float:
    """Return the seconds of one step at batch 1: log-probabilities, and the most probable word."""
    session = _session(path, threads)
    state_names = [value.name for value in session.get_inputs()[1:]]
    states = [np.zeros((1, 1, WIDTH), np.float32) for _ in state_names]
    token = 3
    began = time.perf_counter()
    for _ in range(steps):
        feed = dict(zip(state_names, states, strict=True))
        log_probs, *states = session.run(None, {"token_ids": np.array([[token]]), **feed})
        token = int(log_probs[0].argmax())
    return (time.perf_counter() - began) / steps


if __name__ == "__main__":
    answer_commands({"step": step})
