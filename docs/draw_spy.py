"""Draws images/spy.png, the picture of docs/algebra.md."""

from pathlib import Path

import structmat as sm

corner = sm.block(
    [
        [sm.Haar(32), sm.sized.Sparse(32, per_row=2)],
        [sm.sized.Toeplitz(32), sm.Hadamard(32)],
    ]
)
A = (
    sm.sized.Monarch(64)
    @ sm.stride_permutation(64, 8)
    @ (sm.kron(sm.Identity(4), sm.DFT(16)) + sm.sized.Convolution(64, size=5, mode="same"))
    @ corner
)

if __name__ == "__main__":
    A.spy().savefig(Path(__file__).with_name("images") / "spy.png", dpi=150)
