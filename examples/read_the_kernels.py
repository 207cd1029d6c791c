"""Write an expression, see what the rules, the planner and the code generator make of it.

python examples/read_the_kernels.py            # torch on the CPU, Triton on a GPU
"""

import torch

import structmat as sm

device = "cuda" if torch.cuda.is_available() else "cpu"
torch.manual_seed(0)
n, b = 1024, 32

p = sm.stride_permutation(n, b)
left, right = (torch.randn(b, b, b, device=device) for _ in range(2))
scale = torch.rand(n, device=device)
expression = p @ sm.BlockDiagonal(left) @ p.T @ sm.BlockDiagonal(right) @ sm.Diagonal(scale)

print(expression)
simple, steps = sm.simplify(expression, trace=True)
for step in steps:
    print(f"  {step.rule.name}: {step.rule.statement}")
print(simple)

f = sm.compile(expression)
x = torch.randn(8, n, device=device)
torch.testing.assert_close(f(x), expression(x), rtol=1e-4, atol=1e-4)
print(f.explain(batch=4096))
print(f.source)
