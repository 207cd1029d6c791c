"""Replace a dense layer by the nearest Monarch matrix, then train the factors on data.

    python examples/compress_a_layer.py

Projection finds the nearest Monarch matrix in closed form, with a certificate: nothing of this
structure is nearer to the weight. But nearness of weights is not nearness of outputs: where the
inputs lie near a subspace, training the compiled operator goes on from there.
"""

import torch

import structmat as sm

torch.manual_seed(0)
n, blocks = 256, 16

weight = torch.randn(n, n) / n**0.5
found = sm.project(weight, sm.Monarch, nblocks=blocks)
print(found)
print(f"no Monarch matrix with these blocks is nearer than {found.lower_bound:.4f}")
print(f"parameters: {weight.numel()} dense, {found.operator.cost().params} Monarch")

factors = [t.clone().requires_grad_() for t in (found.operator.left, found.operator.right)]
f = sm.compile(sm.Monarch(*factors))
optimiser = torch.optim.Adam(factors, lr=3e-3)
subspace = torch.randn(16, n)
for step in range(401):
    x = torch.randn(512, 16) @ subspace
    y = x @ weight.T
    loss = (f(x) - y).square().mean() / y.square().mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    if step % 100 == 0:
        print(f"step {step:3d}  relative error of the outputs {loss.detach().sqrt():.3f}")
