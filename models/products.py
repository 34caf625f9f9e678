"""Matrix products by the fastest exact kernel that torch has for the device.

On a CPU, torch multiplies float32 matrices with MKL, which does not use AVX-512 on other makers'
processors: there oneDNN, which torch carries as well, is 1.4 to 4 times as fast (a softmax over 33k
words, two Zen 5 cores). Its operator is internal to torch, whose version is pinned; where it is
missing the ordinary product serves.
"""

import torch
from torch import Tensor

_onednn_linear = getattr(torch.ops.mkldnn, "_linear_pointwise", None)


def product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``a @ b.T + bias``; without gradients.

    Args:
        a: Shape (…, K), any strides.
        b: Shape (M, K), any strides, the type of ``a``.
        bias: Shape (M,), or None for zero.
    """
    exact_cpu = a.device.type == "cpu" and a.dtype == torch.float32
    if exact_cpu and _onednn_linear is not None and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        result: Tensor = _onednn_linear(a, b, bias, "none", [], "")
        return result
    return torch.nn.functional.linear(a, b, bias)
