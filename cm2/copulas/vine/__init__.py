"""Vine copulas: pair copulas of any family on the edges of a regular vine."""

from cm2.copulas.vine.law import VineDistribution
from cm2.copulas.vine.module import Vine
from cm2.copulas.vine.plot import plot_trees
from cm2.copulas.vine.report import VinePair, VineSelection
from cm2.copulas.vine.selection import select_vine
from cm2.copulas.vine.structure import Edge, VineStructure

__all__ = ["Edge", "Vine", "VineDistribution", "VinePair", "VineSelection", "VineStructure", "plot_trees", "select_vine"]
