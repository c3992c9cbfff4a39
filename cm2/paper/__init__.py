"""The numbers that the paper prints, as data: every cell of Tables 1 to 11 with its page, and what is doubtful about some."""

from cm2.paper.numbers import TABLES, Doubt, doubts, printed

__all__ = ["TABLES", "Doubt", "doubts", "printed"]
