"""The trees of a vine: what is refused, and with which words; matrices there and back; orders of sampling."""

from itertools import combinations

import numpy as np
import pytest
import pyvinecopulib as pv

from cm2.copulas.vine import Edge, VineStructure

FIRST = [(0, 1), (1, 2), (2, 3)]
SECOND = [(0, 2, [1]), (1, 3, [2])]
RANDOM = [(dim, seed) for dim in range(3, 9) for seed in range(3)]


@pytest.mark.parametrize(
    ("trees", "message"),
    [
        (
            [FIRST, [(0, 3, [1]), (1, 3, [2])]],
            r"edge \(0, 3 \| 1\) of tree 1 violates the proximity condition: .* no edge of .*\[1, 3\]",
        ),
        (
            [[(0, 1), (0, 2), (0, 3)], [(1, 2, [0]), (2, 3, [0])], [(0, 1, [2, 3])]],
            r"edge \(0, 1 \| 2, 3\) of tree 2 violates the proximity condition: tree 1 has 0 as a conditioning coordinate of \(2, 3 \| 0\)",
        ),
        ([[(0, 1), (1, 2), (0, 2)]], r"edge \(0, 2\) closes a cycle in tree 0"),
        ([[(0, 1), (1, 2), (2, 1)]], r"edge \(2, 1\) closes a cycle"),
        ([[(0, 1), (1, 2)]], r"tree 0 has 2 edges; tree 0 of a vine of 4 coordinates has 3"),
        ([FIRST, SECOND, [(0, 3, [1, 2])], []], r"4 trees given; a vine of 4 coordinates has at most 3"),
        ([[(0, 1), (1, 2), (2, 4)]], r"edge \(2, 4\) in tree 0: give 2 different coordinates of 0 to 3, 0 of them conditioning"),
        ([[(0, 1), (1, 2), (2, 2)]], r"edge \(2, 2\) in tree 0: give 2 different"),
        ([[(0, 1), (1, 2), 5]], r"an edge is 5; give \(a, b, conditioning set\)"),
    ],
)
def test_no_vine(trees, message):
    with pytest.raises(ValueError, match=message):
        VineStructure(4, trees)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: VineStructure(1, []), r"dim is 1; a vine needs an integer dim of at least 2"),
        (lambda: VineStructure(4, [FIRST], [0, 1, 2]), r"order is \[0, 1, 2\]; give the coordinates 0 to 3, each once"),
        (lambda: VineStructure(4, [FIRST], [0, 3, 1, 2]), r"order \[0, 3, 1, 2\]: 2 cannot be drawn last of \[0, 1, 2, 3\] in these trees"),
        (lambda: VineStructure.d_vine([0, 2]), r"order is \[0, 2\]; give the coordinates 0 to 1, each once"),
        (lambda: VineStructure.c_vine(range(4), 4), r"truncation is 4; a vine of 4 coordinates has 0 to 3 trees"),
        (lambda: VineStructure.d_vine(range(4)).margin([0, 2]), r"the coordinates \[0, 2\] cannot be drawn first; .* is \[0, 1, 2\]"),
        (lambda: VineStructure.from_matrix(np.ones((2, 3))), r"matrix has shape \(2, 3\).*; an R-vine matrix is square, of whole numbers"),
        (lambda: VineStructure.from_matrix([[1.5, 1], [2, 0]]), r"of whole numbers"),
        (lambda: VineStructure.from_matrix([[1, 1], [1, 0]]), r"counter-diagonal is \[1, 1\]; it must hold 1 to 2, each once"),
        (lambda: VineStructure.from_matrix([[1, 1], [2, 1]]), r"lower right triangle must be zero"),
        (lambda: VineStructure.from_matrix([[1, 0, 1], [2, 2, 0], [3, 0, 0]]), r"row 0 holds a zero, so all rows from there"),
        (lambda: VineStructure.from_matrix([[2, 1, 1], [2, 2, 0], [3, 0, 0]]), r"edge \(2, 1 \| 1\) in tree 1: give 3 different"),
    ],
)
def test_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(("dim", "seed"), RANDOM)
def test_matrices_there_and_back(dim, seed):
    matrix = np.asarray(pv.RVineStructure.sample(dim, seeds=[seed, dim]).matrix).astype(int)
    structure = VineStructure.from_matrix(matrix)
    assert (structure.matrix == matrix).all()
    assert (np.asarray(pv.RVineStructure.from_matrix(structure.matrix).matrix).astype(int) == matrix).all()
    assert VineStructure.from_matrix(structure.matrix) == structure
    cut = structure.truncate(1)
    assert (VineStructure.from_matrix(cut.matrix).matrix == cut.matrix).all()
    assert (cut.matrix[1:] * (np.add.outer(np.arange(1, dim), np.arange(dim)) != dim - 1) == 0).all()
    # any order of sampling gives a matrix of the same trees
    for order in (structure._default_order(), structure.order_from([structure.trees[0][0].first])):
        other = VineStructure(dim, structure.trees, order)
        assert pv.RVineStructure.from_matrix(other.matrix).dim == dim
        assert {e.union for e in VineStructure.from_matrix(other.matrix).edges} == {e.union for e in structure.edges}


def test_edges_of_c_and_d_vines_come_in_reading_order():
    d_vine, c_vine = (" ".join(map(str, getattr(VineStructure, f"{kind}_vine")([2, 0, 1, 3]).edges)) for kind in "dc")
    assert d_vine == "(2, 0) (0, 1) (1, 3) (2, 1 | 0) (0, 3 | 1) (2, 3 | 0, 1)"
    assert c_vine == "(2, 0) (2, 1) (2, 3) (0, 1 | 2) (0, 3 | 2) (1, 3 | 0, 2)"
    assert VineStructure.d_vine([2, 0, 1, 3]).order == VineStructure.c_vine([2, 0, 1, 3]).order == (2, 0, 1, 3)
    assert Edge(0, 1).partner(1) == 0


@pytest.mark.parametrize(("dim", "seed"), RANDOM[:9])
def test_number_of_orders_and_of_sets_that_can_be_drawn_first(dim, seed):
    structure = VineStructure.from_matrix(np.asarray(pv.RVineStructure.sample(dim, seeds=[seed]).matrix).astype(int))

    def orders(kept):
        return [(*rest, v) for v in structure.removable(kept) for rest in orders(kept - {v})] if kept else [()]

    everything = orders(frozenset(range(dim)))
    assert len(everything) == 2 ** (dim - 1)
    firsts = {frozenset(order[:k]) for order in everything for k in range(dim + 1)}
    for size in range(1, dim + 1):
        for given in map(frozenset, combinations(range(dim), size)):
            assert (structure.order_from(given) is not None) == (given in firsts)
            assert (structure.reduce(given) == given) == (given in firsts)
            assert structure.reduce(given) == min((s for s in firsts if s >= given), key=len)


def test_margins_are_vines():
    structure = VineStructure.d_vine(range(5))
    part, edges = structure.margin([1, 2, 3])
    assert part.trees == VineStructure.d_vine(range(3)).trees
    assert [str(structure.edges[e]) for e in edges] == ["(1, 2)", "(2, 3)", "(1, 3 | 2)"]
