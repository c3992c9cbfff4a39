"""What this book adds to Jupyter Book, gathered so that ``_config.yml`` names one extension."""

from typing import Any

import cm2_api
import cm2_offline
import cm2_page
import cm2_results
from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, Any]:
    """Register every part."""
    for part in (cm2_offline, cm2_results, cm2_page, cm2_api):
        part.setup(app)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
