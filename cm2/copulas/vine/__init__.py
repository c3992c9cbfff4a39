"""Vine copulas: any pair copulas along the trees of a regular vine."""

from cm2.copulas.vine.structure import Edge, VineStructure

__all__ = ["Edge", "VineStructure"]
