"""Files of plain values with one entry removed, renamed or replaced by something strange."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

STRANGE: tuple[Any, ...] = (
    *(None, True, -1, 10**30, 0.5, float("nan")),
    *("", "x", "<script>", "../x.npy", "/etc/passwd", "\x1b[2J", "=1+1"),
    *([], [1], ["a"], {}, {"a": 1}),
)


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every entry of a tree, by its keys."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def mutated(tree: Any, dice: random.Random) -> Any:
    """A copy of the tree with one entry changed."""
    tree = json.loads(json.dumps(tree))
    *parents, last = dice.choice(list(places(tree)))
    node = tree
    for parent in parents:
        node = node[parent]
    how = dice.random()
    if how < 0.2:
        del node[last]
    elif how < 0.3 and isinstance(node, dict):
        node[dice.choice(["<b>", "", "x"])] = node.pop(last)
    else:
        node[last] = dice.choice(STRANGE)
    return tree
