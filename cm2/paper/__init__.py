"""The numbers printed in the paper, as data: every cell of Tables 1 to 11 with its page, and doubts about some of them."""

from cm2.paper.numbers import COHORTS, TABLES, Doubt, doubts, printed

__all__ = ["COHORTS", "TABLES", "Doubt", "doubts", "printed"]
