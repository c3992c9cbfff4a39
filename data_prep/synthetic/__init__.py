"""A simulator of ICU stays from a known distribution, and therefore with known correct answers."""

from data_prep.synthetic.prepare import prepare_synthetic

__all__ = ["prepare_synthetic"]
