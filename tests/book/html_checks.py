"""What can be wrong with rendered pages: dead links and anchors, assets from other hosts, figures without a description."""

import re
from collections.abc import Iterable
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LOADED = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "embed": "src",
    "object": "data",
}
_LOADING_RELATIONS = {"stylesheet", "icon", "preload", "prefetch", "modulepreload", "manifest", "preconnect", "dns-prefetch"}
_OBJECT = re.compile(r"&lt;[\w.]+ (object|at 0x)[^&]*&gt;")
_ROW = re.compile(r"<tr\b[^>]*>(.*?)</tr>", re.DOTALL)
_CELL = re.compile(r"<td\b[^>]*>(.*?)</td>", re.DOTALL)
_STYLE_URL = re.compile(r"""(?:url\(\s*|@import\s+)["']?((?:https?:)?//[^"')\s]+)""")
_FILE_NAME = re.compile(r"^\S*[\w-]+\.(png|svg|jpe?g|gif|webp)$", re.IGNORECASE)


class Page(HTMLParser):
    """Anchors, links, loaded assets and images of one page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.assets: list[str] = []
        self.images: list[tuple[str, str | None]] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors |= {value for name in ("id", "name") if (value := given.get(name))}
        if tag == "a" and given.get("href"):
            self.links.append(str(given["href"]))
        if tag == "link" and given.get("href") and _LOADING_RELATIONS & set((given.get("rel") or "").split()):
            self.assets.append(str(given["href"]))
        if given.get(_LOADED.get(tag, "")):
            self.assets.append(str(given[_LOADED[tag]]))
        if tag == "img":
            self.images.append((given.get("src") or "", given.get("alt")))
        self.assets += _STYLE_URL.findall(given.get("style") or "")


@cache
def _page(path: Path) -> Page:
    return Page(path)


def problems(html: Path) -> list[str]:
    """Everything wrong with the pages below a folder, one line each."""
    _page.cache_clear()
    found = []
    for path in sorted(html.rglob("*.html")):
        if "_static" not in path.relative_to(html).parts:
            found += [f"{path.relative_to(html)}: {problem}" for problem in _page_problems(_page(path), html)]
    for path in sorted(html.rglob("*.css")):
        found += [
            f"{path.relative_to(html)}: loads {url}" for url in _STYLE_URL.findall(path.read_text(encoding="utf-8", errors="replace"))
        ]
    return found


def _page_problems(page: Page, html: Path) -> Iterable[str]:
    content = page.path.read_text(encoding="utf-8", errors="replace")
    if _OBJECT.search(content):
        yield "shows the name of an object in the place of what it holds"
    yield from (f"has a sentence inside a table ({text[:40]}...)" for text in _swallowed(content))
    for asset in page.assets:
        if _is_foreign(asset):
            yield f"loads {asset} from another host"
        elif not asset.startswith("data:") and not _target(page, asset).is_file():
            yield f"loads {asset}, which is not there"
    for link in page.links:
        if not urlsplit(link).scheme and (problem := _link_problem(page, link, html)):
            yield problem
    for source, alt in page.images:
        if alt is None or not alt.strip():
            yield f"image {source} has no alternative text"
        elif _FILE_NAME.match(alt.strip()):
            yield f"image {source} has a file name for alternative text ({alt})"


def _swallowed(content: str) -> Iterable[str]:
    """Text that became the last row of a Markdown table, because no blank line ends it: a sentence, and nothing in the other columns."""
    for row in _ROW.findall(content):
        first, *others = [re.sub(r"<[^>]+>", "", cell).strip() for cell in _CELL.findall(row)] or [""]
        if others and not any(others) and len(first) > 40 and first.endswith((".", ":")):
            yield first


def _is_foreign(url: str) -> bool:
    return url.startswith("//") or urlsplit(url).scheme in {"http", "https", "ws", "wss"}


def _target(page: Page, link: str) -> Path:
    path = unquote(urlsplit(link).path)
    return (page.path.parent / path).resolve() if path else page.path


def _link_problem(page: Page, link: str, html: Path) -> str:
    target, anchor = _target(page, link), unquote(urlsplit(link).fragment)
    if not target.is_relative_to(html.resolve()):
        return f"link {link} leaves the book"
    if not target.is_file():
        return f"link {link} leads nowhere"
    if anchor and target.suffix == ".html" and anchor not in _page(target).anchors:
        return f"link {link} names an anchor that is not there"
    return ""
