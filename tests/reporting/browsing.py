"""Pages in a real browser, without a network: one Chromium opens several, and each tells what it found of itself."""

import html
import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr",
    "--v=0", "--virtual-time-budget=15000",
)  # fmt: skip
NO_GPU = ("fallback to software WebGL", "GL Driver Message")
"""What the console says of a machine without a GPU where a picture has thousands of points; it is not of the page."""
DARK = "--blink-settings=preferredColorScheme=0"
PROBE = """
<script>
(async () => {
  const found = {}, wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
  const figures = [...document.querySelectorAll("[data-figure]")];
  for (let tries = 0; tries < 8 && figures.some((each) => !each.dataset.drawn); tries++) await wait(200);
  found.figures = Object.fromEntries(figures.map((each) => [each.dataset.figure, each.dataset.drawn || "not drawn"]));
  found.marks = document.querySelectorAll(".main-svg .point").length;
  found.error = document.documentElement.dataset.error || "";
  found.width = [document.documentElement.clientWidth, document.documentElement.scrollWidth];
  found.made_by_text = document.querySelectorAll("[data-injected]").length;
  found.cut = figures.flatMap(cut);
  found.collisions = figures.flatMap(collisions);
  try { await visit(found, wait); } catch (error) { found.error += String(error); }
  parent.postMessage({ name: NAME, found }, "*");
})();
function cut(figure) {  // texts of axes and legends that a figure's edge cuts off
  const edge = figure.getBoundingClientRect();
  const texts = [...figure.querySelectorAll('.g-xtitle text, .g-ytitle text, .xtick text, .ytick text, .legendtext')];
  const outside = (box) => box.left < edge.left - 1 || box.right > edge.right + 1 || box.bottom > edge.bottom + 1;
  return texts.filter((text) => outside(text.getBoundingClientRect())).map((text) => text.textContent);
}
function collisions(figure) {  // ticks of one axis that lie on each other
  return [...figure.querySelectorAll(".xaxislayer-above, .yaxislayer-above")].flatMap((layer) => {
    const ticks = [...layer.querySelectorAll(".xtick text, .ytick text")].filter((text) => text.textContent.trim());
    const boxes = ticks.map((text) => text.getBoundingClientRect());
    const on = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
      Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3;
    return boxes.flatMap((box, at) => boxes.slice(at + 1).flatMap((other, more) =>
      on(box, other) ? [`${ticks[at].textContent} on ${ticks[at + 1 + more].textContent}`] : []));
  });
}
async function visit(found, wait) { VISIT }
</script></body>"""
"""`visit` is the page's own: what hands would do, and what came of it, into `found`."""
FRAMES = """<!doctype html><body><script>
addEventListener("message", (event) => {
  const told = document.createElement("pre");
  told.textContent = JSON.stringify(event.data);
  document.body.append(told);
});
</script>FRAMES</body>"""
INJECTED = "</script><img src=x data-injected=1><script>document.body.dataset.injected = 1</script>"
"""A name or text of a record; the mark is there where any page takes it for more than text."""


def visited(
    pages: Mapping[str, tuple[Path, str]], folder: Path, *flags: str, width: int | Mapping[str, int] = 400
) -> tuple[dict[str, Any], list[str]]:
    """What each page told, by its name, and what the console said. `pages`: name -> the file, and the body of its
    `visit`; they are opened beside each other, each as wide as that, or as its name says."""
    frames = []
    for name, (path, visit) in pages.items():
        opened = path.with_name(f"{path.stem}-{name}.html")
        probe = PROBE.replace("NAME", json.dumps(name), 1).replace("VISIT", visit)
        opened.write_text(path.read_text().replace("</body>", probe))
        wide = width if isinstance(width, int) else width[name]
        frames.append(f'<iframe width="{wide}" height="900" src="{opened.as_uri()}"></iframe>')
    frame = folder / "frames.html"
    frame.write_text(FRAMES.replace("FRAMES", "".join(frames)))
    dom, complaints = dumped(frame, folder / "profile", *flags)
    told = [json.loads(html.unescape(each)) for each in re.findall(r"<pre>(.*?)</pre>", dom, re.DOTALL)]
    return {each["name"]: each["found"] for each in told}, complaints


def dumped(page: Path, profile: Path, *flags: str) -> tuple[str, list[str]]:
    """The document after its scripts ran, and what the console said."""
    done = _run([*FLAGS, *flags, "--dump-dom", f"--user-data-dir={profile}", page.as_uri()])
    return done.stdout, _complaints(done)


def printed(page: Path, profile: Path, pdf: Path) -> list[str]:
    """The page on paper; what the console said."""
    paper = ("--no-pdf-header-footer", f"--print-to-pdf={pdf}")
    return _complaints(_run([*FLAGS, *paper, f"--user-data-dir={profile}", page.as_uri()]))


def _run(words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(CHROMIUM), *words], capture_output=True, text=True, timeout=240, check=True)


def _complaints(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if "CONSOLE" in line and not any(each in line for each in NO_GPU)]
