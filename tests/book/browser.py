"""Headless Chromium over ``file://`` with every other host blocked."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from urllib.parse import urlsplit

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-extensions", "--disable-default-apps", "--no-pings", "--mute-audio"),
    *("--enable-logging=stderr", "--log-level=0", "--host-resolver-rules=MAP * ~NOTFOUND", "--window-size=1300,1200"),
)
WIDTHS = (390, 1300)
"""Of a phone and of a laptop, in pixels."""


@dataclass(frozen=True)
class Visit:
    """A loaded page: its document after scripts ran, what the console said, the hosts that were asked for something."""

    dom: str
    console: list[str]
    hosts: set[str]


def installed() -> str | None:
    """Path of the browser, or None."""
    return os.environ.get("CM2_CHROMIUM") or next((path for name in _NAMES if (path := shutil.which(name))), None)


def chromium() -> str:
    """Path of the browser; the test is skipped where there is none."""
    found = installed()
    if found is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium); the book was not looked at in a browser")
    return found


def visit(url: str, folder: Path, seconds: int = 10, *flags: str) -> Visit:
    """Load a page and let its scripts run for so many virtual seconds.

    Args:
        url: what to load.
        folder: an empty folder for the browser's profile and network log.
        seconds: virtual ones; a page that has nothing to do takes none of the real ones.
        flags: of the browser, beside the usual ones.
    """
    log = folder / "network.json"
    command = [chromium(), *_FLAGS, *flags, f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}"]
    command += [f"--virtual-time-budget={1000 * seconds}", "--dump-dom", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120 + 10 * seconds)
    assert done.returncode == 0, done.stderr[-2000:]
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return Visit(done.stdout, console, _hosts(log))


def layout_problems(html: Path, folder: Path) -> list[str]:
    """What a reader cannot reach on the pages of the book: formulas that are cut off, and pages that are wider than the window.

    Args:
        html: folder of the rendered book.
        folder: an empty folder for the browser.
    """
    pages = sorted(path.relative_to(html).as_posix() for path in html.glob("book/*.html"))
    script = Path(__file__).with_name("layout.js").read_text(encoding="utf-8")
    driver = html / "layout.html"  # beside the pages, which a frame may then look into
    driver.write_text(f"<body><script>const PAGES = {json.dumps(pages)}, WIDTHS = {json.dumps(WIDTHS)};\n{script}</script></body>")
    try:
        dom = visit(driver.as_uri(), folder, 8 * len(pages), "--allow-file-access-from-files").dom
    finally:
        driver.unlink()
    said = re.search(r'<pre id="said">(.*?)</pre>', dom, re.DOTALL)
    assert said, "the browser did not come to the last page"
    return json.loads(unescape(said[1]))


def _hosts(log: Path) -> set[str]:
    """Hosts that a page asked for something, from a network log; what the browser asks on its own account has no origin."""
    content = json.loads(log.read_text(encoding="utf-8", errors="replace"))
    details = [event["params"] for event in content["events"] if isinstance(event.get("params"), dict)]
    urls = [given["url"] for given in details if "url" in given and given.get("initiator", "not an origin") != "not an origin"]
    return {urlsplit(url).netloc for url in urls if urlsplit(url).scheme in {"http", "https", "ws", "wss"}}
