"""Headless Chromium over ``file://`` with every other host blocked."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-extensions", "--disable-default-apps", "--no-pings", "--mute-audio"),
    *("--enable-logging=stderr", "--log-level=0", "--host-resolver-rules=MAP * ~NOTFOUND", "--window-size=1300,1200"),
)


@dataclass(frozen=True)
class Visit:
    """A loaded page: its document after scripts ran, what the console said, the hosts that were asked for something."""

    dom: str
    console: list[str]
    hosts: set[str]


def chromium() -> str:
    """Path of the browser; the test is skipped where there is none."""
    wanted = os.environ.get("CM2_CHROMIUM")
    found = wanted or next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium); the book was not looked at in a browser")
    return found


def visit(url: str, folder: Path, seconds: int = 10) -> Visit:
    """Load a page and let its scripts run for so many virtual seconds.

    Args:
        url: what to load.
        folder: an empty folder for the browser's profile and network log.
    """
    log = folder / "network.json"
    command = [chromium(), *_FLAGS, f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}"]
    command += [f"--virtual-time-budget={1000 * seconds}", "--dump-dom", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return Visit(done.stdout, console, _hosts(log))


def _hosts(log: Path) -> set[str]:
    """Hosts that a page asked for something, from a network log; what the browser asks on its own account has no origin."""
    content = json.loads(log.read_text(encoding="utf-8", errors="replace"))
    details = [event["params"] for event in content["events"] if isinstance(event.get("params"), dict)]
    urls = [given["url"] for given in details if "url" in given and given.get("initiator", "not an origin") != "not an origin"]
    return {urlsplit(url).netloc for url in urls if urlsplit(url).scheme in {"http", "https", "ws", "wss"}}
