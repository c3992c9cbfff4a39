"""Execute the chapters of the book with papermill and render them: ``build`` is what ``cm2 book`` and ``make book`` call.

The book is a Jupyter Book 1.x whose chapters are notebooks without outputs under ``book/``, listed in ``_toc.yml``. ``build`` executes
each of them in a separate process (only those whose source, parameters, package sources or versions changed), stages the executed
notebooks in a folder that mirrors the repository, and renders that folder with warnings as errors.

Example:
    >>> from cm2.book import build
    >>> build(only="training_cm2", parameters={"seed": 3})  # doctest: +SKIP
"""

from cm2.book.chapters import Chapter, find_root, read_chapters
from cm2.book.failure import ChapterError, Failure
from cm2.book.render import RenderError
from cm2.book.runner import build

__all__ = ["Chapter", "ChapterError", "Failure", "RenderError", "build", "find_root", "read_chapters"]
