"""A simulator of ICU stays whose law, and so every right answer, is known."""

from data_prep.synthetic.prepare import prepare_synthetic

__all__ = ["prepare_synthetic"]
