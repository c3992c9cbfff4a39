"""What tells one version of a part from another, so that no run of an older one is taken for its own.

A part of this package is known by its name: the version of the method counts (`cm2.methods.Method.version`). A part from outside is known
by where it is defined and by its ``version``. If it sets none, its source counts in the version's place:

* of a module on the disk, the text of its file when it was defined, and of all modules of the same package, or files and packages of the
  same folder, that these import;
* of a script or notebook, the compiled code of the part and of whatever it uses of the same notebook: functions, classes, constants,
  tensors, the weights of networks. Comments and line breaks do not count; another version of Python does.

Of a notebook or script the code counts beside a version too: a cell is changed more easily than a number in it. What a part takes from
other libraries, from files or from a network that it loads is not seen; a part that does so sets a version, or says what it starts from.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from cm2.errors import InputError
from cm2.parts.plugins import PLUGINS

_PLAIN = (int, float, complex, str, bytes, bool, type(None), type(...))
_SILENT = {"__dict__", "__weakref__", "__doc__", "__module__", "__firstlineno__", "__static_attributes__", "__annotations__"}
_SILENT |= {"__abstractmethods__", "_abc_impl", "__parameters__", "__annotations_cache__", "__annotate__", "__annotate_func__"}
INTERACTIVE = "__main__"


def identity(part: Any, version: str = "", text: str = "") -> str:
    """What enters the key of a run that uses a part.

    Args:
        part: a class or function.
        version: that its author gave it.
        text: `source` when it was defined.

    Returns:
        Empty for a part of this package.
    """
    if part.__module__.partition(".")[0] == "cm2":
        return ""
    path = f"{part.__module__}.{part.__qualname__}"
    if version and part.__module__ != INTERACTIVE:
        return f"{path} version {version}"
    return f"{path} {f'version {version} ' if version else ''}source {(text or code(part))[:16]}"


def check_same(stored: Mapping[str, str], here: Mapping[str, str], where: object) -> None:
    """Compares the parts that something was trained with and those that this process knows of.

    Args:
        stored: identities by what names the parts, see `cm2.methods.outside.identities`.
        here: the same of this process.
        where: folder of what was trained, the beginning of the error.

    Raises:
        InputError: a part is not known here, or has another version or other code.
    """
    for name, saved in stored.items():
        if name not in here:
            raise InputError(f"{where}: {name} was {saved}, which is not here; install its package, or name its file in {PLUGINS}")
        if here[name] != saved:
            raise InputError(f"{where}: {name} was {saved}, here it is {here[name]}; use the version that the model was trained with")


def source(part: Any) -> str:
    """SHA-256 of the text of the module that defines a part, and of what it imports beside it; empty without a file, or in a script."""
    module = sys.modules.get(part.__module__)
    file = getattr(module, "__file__", None)
    if module is None or part.__module__.partition(".")[0] in ("cm2", INTERACTIVE) or file is None or not Path(file).is_file():
        return ""
    texts = dict(sorted(_closure(module.__name__, Path(file))))
    return _sha256("".join(f"{name}\n{text}\n" for name, text in texts.items()))


def code(part: Any) -> str:
    """SHA-256 of the compiled code of a class or function and of what it uses of the module that defines it."""
    return _sha256("\n".join(_told(part, part.__module__, {})))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _closure(name: str, file: Path) -> Iterator[tuple[str, str]]:
    """Names and texts of a module and of the modules of its package, or files and packages of its folder, that it imports."""
    root, folder = name.partition(".")[0], None if "." in name or file.name == "__init__.py" else file.parent
    todo, seen = [(name, file)], set()
    while todo:
        name, file = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        text = file.read_text(encoding="utf-8", errors="surrogateescape")
        yield name, text
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        todo += [(found, path) for found in _imported(text, package) if (path := _neighbour(found, root, folder)) is not None]


def _imported(text: str, package: str) -> Iterator[str]:
    """Absolute names of what a module imports; a name imported from a package may be a module of it."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):  # a file that was changed since
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from accumulate(alias.name.split("."), "{}.{}".format)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".") if package else []
            above = parents[: len(parents) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" if base else alias.name for alias in node.names)


def _neighbour(name: str, root: str, folder: Path | None) -> Path | None:
    """The file of an imported module if it belongs to the package ``root``, or lies in the folder of a module that is in no package.

    Where distributions are installed, the packages of a folder are those of others, and its files alone count.
    """
    first = name.partition(".")[0]
    if first != root and (folder is None or not _beside(first, folder)):
        return None
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):  # a name in a module, not a module
        return None
    return Path(spec.origin) if spec is not None and spec.origin and Path(spec.origin).suffix == ".py" else None


def _beside(first: str, folder: Path) -> bool:
    """Whether a folder has a module or package of such a name, which is not this package in its checkout."""
    if first in ("", "cm2", "data_prep"):
        return False
    return (folder / f"{first}.py").is_file() or ((folder / first).is_dir() and not any(folder.glob("*.dist-info")))


def _told(thing: Any, module: str, seen: dict[int, Any]) -> Iterator[str]:
    """Lines that differ when a thing does; what other modules define is only named."""
    if id(thing) in seen and not isinstance(thing, _PLAIN):
        yield "again"
        return
    seen[id(thing)] = thing  # kept alive: the number of a thing that is gone is given to another
    if isinstance(thing, _PLAIN):
        yield repr(thing)
    elif isinstance(thing, staticmethod | classmethod):
        yield from _told(thing.__func__, module, seen)
    elif isinstance(thing, property):
        for function in (thing.fget, thing.fset, thing.fdel):
            yield from _told(function, module, seen)
    elif isinstance(thing, tuple | list):
        yield type(thing).__name__
        for item in thing:
            yield from _told(item, module, seen)
    elif isinstance(thing, set | frozenset):
        yield from sorted("\n".join(_told(item, module, seen)) for item in thing)
    elif isinstance(thing, dict):
        for key, value in thing.items():
            yield f"{key!r}:"
            yield from _told(value, module, seen)
    elif isinstance(thing, CodeType):
        yield from (thing.co_code.hex(), repr(thing.co_names), repr(thing.co_varnames), repr(thing.co_flags))
        yield from _told(thing.co_consts, module, seen)
    elif isinstance(thing, FunctionType) and thing.__module__ == module:
        yield from _of_function(thing, module, seen)
    elif isinstance(thing, type) and thing.__module__ == module:
        yield thing.__qualname__
        yield from _told(thing.__bases__, module, seen)
        for key, value in vars(thing).items():
            if key not in _SILENT:
                yield f"{key}:"
                yield from _told(value, module, seen)
    elif isinstance(thing, ModuleType | FunctionType | type):
        yield f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', thing.__name__)}"
    else:
        yield from _of_value(thing)


def _of_function(function: FunctionType, module: str, seen: dict[int, Any]) -> Iterator[str]:
    yield from _told(function.__code__, module, seen)
    yield from _told(function.__defaults__ or (), module, seen)
    yield from _told(function.__kwdefaults__ or {}, module, seen)
    for cell in function.__closure__ or ():
        try:
            yield from _told(cell.cell_contents, module, seen)
        except ValueError:  # a cell without contents
            yield "empty"
    for name in sorted(_names(function.__code__)):
        if name in function.__globals__:
            yield f"{name}="
            yield from _told(function.__globals__[name], module, seen)


def _names(code: CodeType) -> set[str]:
    """Names that a function reads, those of the functions inside it included."""
    return set(code.co_names).union(*(_names(each) for each in code.co_consts if isinstance(each, CodeType)))


def _of_value(thing: Any) -> Iterator[str]:
    """Type of an object, and its numbers if it is a tensor, an array or a network."""
    yield f"{type(thing).__module__}.{type(thing).__qualname__}"
    if callable(state := getattr(thing, "state_dict", None)):
        for name, tensor in state().items():
            yield name
            yield from _of_value(tensor)
    elif hasattr(thing, "detach") and hasattr(thing, "cpu"):
        yield from _of_value(thing.detach().cpu().double().numpy())
    elif hasattr(thing, "tobytes") and hasattr(thing, "dtype"):
        yield f"{thing.dtype} {getattr(thing, 'shape', ())} {hashlib.sha256(thing.tobytes()).hexdigest()}"
