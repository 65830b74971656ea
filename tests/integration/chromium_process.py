"""Debian's Chromium, headless: loads one page, says what its console said, and gives back the document as it then stands."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

CHROMIUM = Path("/usr/bin/chromium")  # `./dev test` installs it
LIMIT_S = 60
# A browser that keeps to the page: it asks no server of its maker for anything, and finds none.
QUIET = (
    "--disable-background-networking", "--disable-component-update", "--disable-extensions", "--disable-quic", "--disable-sync",
    "--no-first-run", "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip
MEASURE = """
<script>addEventListener("load", () => {
  const texts = [...document.querySelectorAll("svg text")].filter(text => text.textContent).map(text => {
    const box = text.getBoundingClientRect();
    return { text: text.textContent, left: box.left, right: box.right, top: box.top, bottom: box.bottom,
             px: parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a };
  });
  const requested = performance.getEntriesByType("resource").map(entry => entry.name);
  const page = { width: innerWidth, scrolls: document.documentElement.scrollWidth, texts, requested };
  document.documentElement.dataset.measured = JSON.stringify(page);
})</script>
"""


@dataclass(frozen=True)
class Loaded:
    dom: str
    console: tuple[str, ...]


def load(page: Path, *options: str, width: int = 1280) -> Loaded:
    """Until the page is complete and has nothing more to do."""
    argv = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", *QUIET, f"--user-data-dir={page.parent / 'profile'}",
        f"--window-size={width},1000", "--enable-logging=stderr", "--virtual-time-budget=5000", *options, "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr[-3000:]
    return Loaded(done.stdout, tuple(re.findall(r"CONSOLE:\d+\] (.*)", done.stderr)))


def measured(page: Path, width: int = 1280) -> dict[str, Any]:
    """Boxes and sizes of every text, what was requested, how wide it is: by a copy of the page that carries a script and no policy."""
    copy = page.with_name("measured.html")
    copy.write_text(re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text()) + MEASURE)
    found = re.search(r'data-measured="([^"]*)"', load(copy, width=width).dom)
    assert found, "the page was not measured"
    seen: dict[str, Any] = json.loads(unescape(found[1]))
    return seen
