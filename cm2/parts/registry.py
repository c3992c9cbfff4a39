"""Registries: parts by the name that configurations, tables and the command line call them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from cm2.config.names import choose, did_you_mean
from cm2.errors import InputError
from cm2.parts.identity import identity, source
from cm2.parts.plugins import PLUGINS, import_plugins, installed, load

T = TypeVar("T")


@dataclass
class _Entry:
    part: Any
    version: str
    source: str
    """Digest of the source when the part was defined; empty where it is taken when it is asked for."""
    given: str = ""
    """Identity in the process that handed the part over."""


class Registry(MutableMapping[str, T], Generic[T]):
    """Parts of one sort by name. A name that is not known yet is looked for among the installed plug-ins.

    Reading one name imports at most the plug-in that has it; iterating imports all of them, and one that fails is left out with a warning.

    Args:
        what: the word for such a part in messages.
        group: of the entry points that offer one.
        named: whether a part has to set its name itself; otherwise an entry point's name will do.
        by: the attribute of a class that is its name.
    """

    def __init__(self, what: str, group: str, named: bool = True, by: str = "name") -> None:
        self.what, self.group, self.named, self.by = what, group, named, by
        self._entries: dict[str, _Entry] = {}
        self._busy = False
        REGISTRIES[group] = self

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            self._look_for(name)
        return self._entries[name].part

    def __setitem__(self, name: str, part: T) -> None:
        self.register(name, part)

    def __delitem__(self, name: str) -> None:
        del self._entries[name]

    def __iter__(self) -> Iterator[str]:
        self._import_all()
        return iter(dict(self._entries))

    def __len__(self) -> int:
        self._import_all()
        return len(self._entries)

    def enter(self, cls: type[Any]) -> None:
        """Enters a class if it sets its name in its body, with the ``version`` that it sets there.

        Raises:
            InputError: see `register`.
        """
        if isinstance(name := vars(cls).get(self.by), str) and name:
            self.register(name, cls, str(vars(cls).get("version", "")))

    def register(self, name: str, part: Any, version: str = "") -> None:
        """Enters a part; one that is defined again, as in a notebook's cell, takes its own place.

        Args:
            name: what configurations call it.
            part: a class or function.
            version: raise it when the same settings no longer give the same; without one the source decides, see `cm2.parts.identity`.

        Raises:
            InputError: another part has the name, or the part is no class or function.
        """
        if not (isinstance(name, str) and name.strip() and name.isprintable()):
            raise InputError(f"{self.what}: {name!r} is no name; give a text that is not empty")
        if not hasattr(part, "__qualname__"):
            raise InputError(f"{self.what} {name!r}: expected a class or a function that makes one, got a {type(part).__name__}")
        known = self._entries.get(name)
        if known is not None and _path(known.part) != _path(part):
            raise InputError(f"{self.what} {name!r} is {_path(known.part)} already; give {part.__qualname__} another name")
        self._entries[name] = _Entry(part, version, source(part))

    def own(self) -> dict[str, T]:
        """What is registered by now; nothing is imported."""
        return {name: entry.part for name, entry in self._entries.items()}

    def find(self, name: str, where: str = "") -> T:
        """A part by name.

        Args:
            name: of the part.
            where: the setting that names it, the beginning of the error.

        Raises:
            InputError: an unknown name; the message lists the known ones.
        """
        if name not in self:
            known = sorted(self)
            yours = "" if did_you_mean(name, known) else f"; for one of your own, install its package or name its file in {PLUGINS}"
            raise InputError(f"{f'{where}: ' if where else ''}unknown {self.what} {name!r}; {choose(name, known)}{yours}")
        return self[name]

    def identity(self, name: str) -> str:
        """What enters the key of a run that uses the part: empty for a part of this package, and for an unknown name."""
        if name not in self:
            return ""
        entry = self._entries[name]
        return entry.given or identity(entry.part, entry.version, entry.source)

    def receive(self, name: str, part: Any, version: str, given: str) -> None:
        """Enters a part that another process hands over, with the identity that it has there; one that was defined here stays as it is."""
        known = self._entries.get(name)
        if known is not None and known.part is part and not known.given:
            return
        self._entries[name] = _Entry(part, version, "", given)

    def outside(self) -> dict[str, tuple[Any, str]]:
        """Parts from outside that are registered by now, with their versions."""
        return {name: (e.part, e.version) for name, e in self._entries.items() if not _path(e.part).startswith("cm2.")}

    def _look_for(self, name: str) -> None:
        if self._busy:  # a plug-in asks while it is being imported
            return
        self._busy = True
        try:
            import_plugins()
            if name not in self._entries and (point := installed(self.group).get(name)) is not None:
                self._take(name, load(point, self.what))
        finally:
            self._busy = False

    def _import_all(self) -> None:
        if self._busy:
            return
        self._busy = True
        try:
            import_plugins()
            for name, point in installed(self.group).items():
                if name not in self._entries:
                    try:
                        self._take(name, load(point, self.what))
                    except InputError as error:
                        warnings.warn(f"a plug-in is left out: {error}", stacklevel=4)
        finally:
            self._busy = False

    def _take(self, name: str, part: object) -> None:
        if name in self._entries:  # it registered itself
            return
        if self.named:
            raise InputError(f"{self.what} {name!r}: its entry point defines no class with {self.by} = {name!r}; give both the same name")
        self.register(name, part, str(getattr(part, "version", "")))


REGISTRIES: dict[str, Registry[Any]] = {}
"""Registries by group of entry points."""

Carried = list[tuple[str, str, Any, str, str]]
"""Parts on their way to another process: group, name, part, version and identity of each."""


def carried() -> Carried:
    """The parts from outside that this process knows of, for one that imports everything afresh."""
    return [
        (group, name, part, version, registry.identity(name))
        for group, registry in REGISTRIES.items()
        for name, (part, version) in registry.outside().items()
    ]


def receive(parts: Sequence[tuple[str, str, Any, str, str]]) -> None:
    """Enters the parts that another process handed over."""
    for group, name, part, version, given in parts:
        if (registry := REGISTRIES.get(group)) is not None:
            registry.receive(name, part, version, given)


def registering(registry: Registry[Any], name: str, version: str = "") -> Callable[[T], T]:
    """A decorator that registers a class or function; see `Registry.register`."""

    def register(part: T) -> T:
        registry.register(name, part, version)
        return part

    return register


def _path(part: Any) -> str:
    return f"{part.__module__}.{part.__qualname__}"
