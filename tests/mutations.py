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


def as_toml(tree) -> str:
    """Plain values as TOML; JSON's texts, numbers and lists are TOML's, but for null and NaN."""
    word = lambda value: (
        "{ " + ", ".join(f"{json.dumps(k)} = {word(v)}" for k, v in value.items()) + " }"
        if isinstance(value, dict)
        else "[" + ", ".join(map(word, value)) + "]"
        if isinstance(value, list)
        else json.dumps("null" if value is None else value).replace("NaN", "nan")
    )
    return "".join(f"{json.dumps(key)} = {word(value)}\n" for key, value in tree.items())


def mangled(content: bytes, dice: random.Random) -> bytes:
    """Bytes with a few of them changed, cut, doubled, inserted or replaced."""
    place, size = dice.randrange(len(content) + 1), dice.randrange(1, 40)
    how = dice.randrange(7)
    if how == 0:
        return content[:place]
    if how == 1:
        return content[:place] + content[place + size :]
    if how == 2:
        return content[:place] + dice.randbytes(size) + content[place:]
    if how == 3:
        return content[:place] + content[max(0, place - size) :]
    if how == 4:
        return dice.choice([b"", b"\0" * 64, b"\xff\xfe", b"{}", b"<html>", b"\x80\x04K\x01."])
    changed = bytearray(content)
    for _ in range(dice.choice([1, 1, 8])):
        if changed:
            changed[dice.randrange(len(changed))] = dice.randrange(256)
    return bytes(changed)
