import pytest
import torch
from torch import nn

from training.muon import Muon, orthogonal

SHAPES = [(24, 40), (40, 24), (32, 32), (1, 7)]


def _matrices():
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_singular_values_become_alike_and_vectors_stay(dtype):
    for matrix in _matrices():
        u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
        s = s / s.norm()
        for _ in range(5):  # Jordan et al. (2024)
            s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
        noise = 1e-4 if dtype == torch.float32 else 0.05
        assert (orthogonal(matrix.to(dtype)) - u @ s.diag() @ vh).abs().max() < noise
        assert ((s > 0.65) & (s < 1.25)).float().mean() > 0.95  # but what was almost 0


def test_nothing_but_the_direction_counts():
    for matrix in _matrices():
        torch.testing.assert_close(orthogonal(1e4 * matrix), orthogonal(matrix))
    assert torch.equal(orthogonal(torch.zeros(3, 4)), torch.zeros(3, 4))


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.bfloat16, 1e-6), (torch.float32, 0.02)], ids=["same", "finer"]
)
def test_it_steps_as_torch_does(dtype, tolerance):
    """torch's own is an independent implementation, all of whose products are bfloat16."""
    ours, theirs = ([nn.Parameter(matrix) for matrix in _matrices()] for _ in range(2))
    options = {"lr": 0.03, "weight_decay": 0.2, "momentum": 0.9}
    mine = Muon(ours, dtype=dtype, **options)
    torchs = torch.optim.Muon(theirs, adjust_lr_fn="match_rms_adamw", **options)
    generator = torch.Generator().manual_seed(9)
    for _ in range(4):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape, generator=generator)
            b.grad = a.grad.clone()
        mine.step()
        torchs.step()
    for a, b, start in zip(ours, theirs, _matrices(), strict=True):
        moved = (b - start).norm()
        assert (a - b).norm() < tolerance * moved
    # What it remembers is torch's too: older runs go on.
    names = [set(state) for state in (*mine.state.values(), *torchs.state.values())]
    assert names == [{"momentum_buffer"}] * 2 * len(SHAPES)


def test_a_matrix_without_gradient_stays():
    used, unused = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    used.grad = torch.eye(2)
    Muon([used, unused], lr=0.1, weight_decay=0.5, momentum=0.9).step()
    assert not torch.equal(used, torch.ones(2, 2))
    assert torch.equal(unused, torch.ones(2, 2))
