"""Parts from outside the package: registries that find them by name, and what tells one version of a part from another.

A part is a method, an encoder, a fusion, a kind of modality, a copula family or a type of task. It registers itself where it is defined: a
subclass by setting ``name``, anything else by a decorator such as `cm2.networks.encoders.register_encoder`. Three things make the module
that defines it known to every process, the command line included: an entry point of an installed distribution in one of the groups
``cm2.methods``, ``cm2.encoders``, ``cm2.fusions``, ``cm2.kinds``, ``cm2.copulas`` and ``cm2.tasks``; the environment variable
``CM2_PLUGINS``, which names modules or files; or, in a script or notebook, the definition itself, which `fit_all` hands to its workers.

Every part from outside is a part of the keys of the runs that use it; see `cm2.parts.identity`.
"""

from cm2.parts.identity import check_same, identity
from cm2.parts.plugins import PLUGINS, installed
from cm2.parts.registry import REGISTRIES, Carried, Registry, carried, receive

__all__ = ["PLUGINS", "REGISTRIES", "Carried", "Registry", "carried", "check_same", "identity", "installed", "receive"]
