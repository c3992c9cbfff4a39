"""Floor 0: special functions that stay accurate, and differentiable, in the tails.

Import from the submodules: `elementary`, `normal`, `gamma`, `roots`.
"""
