"""No page asks another host for anything: MathJax comes from an installed package, and theme options that would fetch are switched off."""

import shutil
from importlib.util import find_spec
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError

# of the package's 30 MB these 2 MB are what TeX input with CHTML output asks for
_PARTS = ("tex-chtml.js", "output/chtml/fonts/woff-v2", "input/tex/extensions", "ui")


def _package() -> Path:
    spec = find_spec("sphinx-mathjax-offline")
    if spec is None or spec.origin is None:
        raise ExtensionError("sphinx-mathjax-offline is not installed; install the book's requirements (make env)")
    return Path(spec.origin).parent / "static" / "mathjax"


def _configure(app: Sphinx, config: Config) -> None:
    config.mathjax_path = "mathjax/tex-chtml.js"
    # the accessibility explorer of MathJax's menu would fetch its speech rules
    mathjax = dict(config.mathjax3_config or {})
    mathjax["options"] = dict(mathjax.get("options", {})) | {
        "menuOptions": {"settings": {"assistiveMml": True, "collapsible": False, "explorer": False}}
    }
    config.mathjax3_config = mathjax
    # in _config.yml these would replace the options that jupyter-book derives; one by one they do not
    config.html_theme_options["navbar_persistent"] = []
    config.html_theme_options["show_toc_level"] = 2


def _copy_mathjax(app: Sphinx, error: Exception | None) -> None:
    target = Path(app.outdir) / "_static" / "mathjax"
    if error is not None or app.builder.format != "html" or target.is_dir():
        return
    for part in _PARTS:
        source = _package() / part
        (target / part).parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target / part)
        else:
            shutil.copy(source, target / part)


def setup(app: Sphinx) -> None:
    """Connect to Sphinx."""
    # jupyter-book sets it for sphinx_comments, which this book does not load
    app.add_config_value("comments_config", {}, "")
    app.connect("config-inited", _configure, priority=900)
    app.connect("build-finished", _copy_mathjax)
