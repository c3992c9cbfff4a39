"""Special functions, distribution functions and solvers that are accurate and differentiable in the tails.

Import from the submodules, for example `elementary`, `normal`, `gamma` or `roots`.
"""
