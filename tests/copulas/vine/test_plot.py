"""The figure of a vine's trees: what it says, and that nothing in it touches."""

from __future__ import annotations

import itertools

import matplotlib
import numpy as np
import pytest
import torch

from cm2.copulas import make
from cm2.copulas.vine import Vine, VineStructure, plot_trees, select_vine
from cm2.copulas.vine.plot import equal_angle_layout

matplotlib.use("Agg")
from matplotlib import pyplot as plt

REGULAR = VineStructure(
    5,
    [
        [(0, 1), (1, 2), (1, 3), (3, 4)],
        [(0, 2, [1]), (2, 3, [1]), (1, 4, [3])],
        [(0, 3, [1, 2]), (2, 4, [1, 3])],
        [(0, 4, [1, 2, 3])],
    ],
)
STRUCTURES = {
    "d3": VineStructure.d_vine(range(3)),
    "c5": VineStructure.c_vine(range(5)),
    "d7": VineStructure.d_vine(range(7)),
    "r5": REGULAR,
}
STRUCTURES |= {"c7": VineStructure.c_vine((3, 1, 0, 2, 6, 5, 4))}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def pair_copulas(structure):
    kinds = itertools.cycle(
        [
            lambda: make("gumbel", 2, kendall_tau=0.5),
            lambda: make("clayton", 2, rotation=270, kendall_tau=-0.3),
            lambda: make("independence", 2),
            lambda: make("student", 2, rho=0.4, nu=4.0),
        ]
    )
    return [[next(kinds)() for _ in tree] for tree in structure.trees]


def words(ax):
    return [text.get_text() for text in ax.texts if text.get_text()]


def boxes(figure):
    """Extents of all texts with their frames, pixels, panel by panel."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    texts = [[text for text in ax.texts if text.get_text()] for ax in figure.axes]
    frame = lambda text: text.get_bbox_patch() or text
    return [[frame(text).get_window_extent(renderer) for text in panel] for panel in texts]


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("names", [None, "long"])
def test_nothing_overlaps_and_nothing_is_cut_off(name, names):
    structure = STRUCTURES[name]
    labels = names and [f"modality {v}" for v in range(structure.dim)]
    figure = plot_trees(Vine(structure.dim, structure, pair_copulas(structure)), labels)
    found = [box for panel in boxes(figure) for box in panel]
    nodes = structure.dim + len(structure.edges) - 1
    assert len(found) == len(structure.trees) + nodes + len(structure.edges)
    assert not [(a, b) for a, b in itertools.combinations(found, 2) if a.overlaps(b)]
    whole = figure.bbox
    assert all(whole.x0 <= box.x0 and whole.y0 <= box.y0 and box.x1 <= whole.x1 and box.y1 <= whole.y1 for box in found)


def test_every_edge_says_family_and_tau():
    figure = plot_trees(Vine(5, REGULAR, pair_copulas(REGULAR)))
    first, second, *_ = figure.axes
    assert words(first) == ["Tree 0", "0", "1", "2", "3", "4", "gumbel\n0.50", "clayton 270°\n−0.30", "independence", "student\n0.26"]
    assert words(second)[1:5] == ["0,1", "1,2", "1,3", "3,4"]
    assert [words(ax)[0] for ax in figure.axes] == [f"Tree {t}" for t in range(4)]


def test_names_stand_for_the_coordinates():
    figure = plot_trees(REGULAR, ["age", "lab", "film", "note", "sex"])
    assert words(figure.axes[0]) == ["Tree 0", "age", "lab", "film", "note", "sex"]
    assert words(figure.axes[2])[1:] == ["age, film | lab", "film, note | lab", "lab, sex | note"]


def test_what_can_be_drawn():
    torch.manual_seed(0)
    module = Vine(3, "d", [[make("gumbel", 2, alpha=2.0), make("frank", 2, alpha=-2.0)], [make("gaussian", 2, rho=0.3)]])
    selection = select_vine(module().sample((200,)), ["gumbel", "frank", "gaussian"], structure="d")
    shown = [[words(ax) for ax in plot_trees(each).axes] for each in (module, module(), selection)]
    assert shown[0] == shown[1] and len(shown[2]) == 2
    assert len(plot_trees(selection.vine.structure.truncate(1)).axes) == 1


def test_the_figure_has_no_background():
    figure = plot_trees(REGULAR)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())
    assert (pixels[..., 3] == 0).mean() > 0.8


def test_errors():
    with pytest.raises(ValueError, match="2 names given for a vine of 5 coordinates"):
        plot_trees(REGULAR, ["a", "b"])
    with pytest.raises(ValueError, match="truncated to no tree"):
        plot_trees(REGULAR.truncate(0))
    with pytest.raises(TypeError, match="Gumbel given"):
        plot_trees(make("gumbel", 2, alpha=2.0))
    with pytest.raises(ValueError, match=r"batch shape \(4,\)"):
        plot_trees(Vine(3)().expand(torch.Size([4])))


def segments(places, links):
    return [(places[i], places[j]) for i, j in links]


def crosses(first, second):
    turn = lambda a, b, c: (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    (a, b), (c, d) = first, second
    return turn(a, b, c) * turn(a, b, d) < -1e-9 and turn(c, d, a) * turn(c, d, b) < -1e-9


@pytest.mark.parametrize("seed", range(30))
def test_edges_have_one_length_and_do_not_cross(seed):
    rng = np.random.default_rng(seed)
    links = [(int(rng.integers(max(0, j - 3), j)), j) for j in range(1, 12)]
    places = equal_angle_layout(links)
    lines = segments(places, links)
    assert np.allclose([np.hypot(*(a - b)) for a, b in lines], 1)
    apart = [(i, j) for i, j in itertools.combinations(range(len(links)), 2) if not set(links[i]) & set(links[j])]
    assert not [(links[i], links[j]) for i, j in apart if crosses(lines[i], lines[j])]
