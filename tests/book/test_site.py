"""The built site in a browser: alive, complete, light, and asking no other host for anything."""

import functools
import html
import os
import re
import shutil
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlparse

import pytest

from vaelab.check import browser as browser_on_this_machine

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "_build" / "html"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
]
FLAGS += ["--disable-component-update", "--disable-sync"]
INSTALL = "no Chrome, Edge or Chromium found: install one, for example with 'apt install chromium'"
LOOK = """() => ({
  wide: document.documentElement.scrollWidth - window.innerWidth,
  noAlt: [...document.querySelectorAll('article img')].filter(i => !i.alt.trim()).map(i => i.src.slice(0, 120)),
  broken: [...document.images].filter(i => i.complete && !i.naturalWidth && i.loading != 'lazy').map(i => i.src.slice(0, 120)),
  math: document.querySelectorAll('.math').length,
  drawn: document.querySelectorAll('.math mjx-container').length,
  failed: document.querySelectorAll('mjx-merror, [data-mjx-error]').length,
})"""


def newest(paths):
    return max((p.stat().st_mtime for p in paths if p.is_file()), default=0)


def sources():
    yield from (ROOT / "_config.yml", ROOT / "_toc.yml")
    yield from (ROOT / "book").glob("*.md")
    yield from (ROOT / "book").glob("*.ipynb")
    yield from (ROOT / "book" / "assets").rglob("*")
    yield from (ROOT / "book" / "tools").glob("*.py")
    yield from (ROOT / "vaelab").rglob("*.py")  # the reference is read from it


@pytest.fixture(scope="module")
def site():
    """The built site; built here when it is missing or older than its sources."""
    if newest([SITE / "objects.inv"]) < newest(sources()):
        program = shutil.which("jupyter-book", path=Path(sys.executable).parent) or "jupyter-book"
        command = [program, "build", ".", "-W", "-n", "--keep-going"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return SITE


@pytest.fixture(scope="module")
def browser():
    program = browser_on_this_machine()
    if program is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(INSTALL)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield running
        running.close()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server(site):
    handler = functools.partial(Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()


def pages(site):
    return sorted(site.glob("book/*.html")) + [site / "search.html"]


def visit(browser, base, address, width):
    """Open a page; return what is wrong with it."""
    problems = []
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.on("request", lambda r: problems.append(f"asks {r.url[:120]}") if not at_home(r.url, base) else None)
    page.on("console", lambda m: problems.append(f"console: {m.text}") if m.type == "error" else None)
    page.on("pageerror", lambda e: problems.append(f"script: {e}"))
    page.goto(address, wait_until="load")
    wait_for_math(page)
    seen = page.evaluate(LOOK)
    problems += [f"no alt text: {src}" for src in seen["noAlt"]] + [
        f"broken picture: {src}" for src in seen["broken"]
    ]
    if seen["drawn"] < seen["math"] or seen["failed"]:
        problems.append(f"{seen['drawn']} of {seen['math']} formulas drawn, {seen['failed']} failed")
    if seen["wide"] > 0:
        problems.append(f"scrolls sideways by {seen['wide']} px at {width} px")
    page.close()
    return problems


def at_home(url, base):
    return url.startswith((base, "data:", "blob:", "about:"))


def wait_for_math(page):
    page.wait_for_function(
        "() => !window.MathJax || !MathJax.startup || (MathJax.startup.promise && MathJax.startup.promise.then(() => true))",
        timeout=20_000,
    )


@pytest.mark.browser
@pytest.mark.parametrize(("way", "width"), [("http", 1280), ("file", 375)])
def test_every_page_in_a_browser(site, browser, server, way, width):
    base = server if way == "http" else "file://"
    problems = []
    for path in pages(site):
        address = server + path.relative_to(site).as_posix() if way == "http" else path.as_uri()
        problems += [f"{path.name}: {problem}" for problem in visit(browser, base, address, width)]
    assert problems == []


def links(text):
    return [
        html.unescape(link)
        for link in re.findall(r'<(?:a|link|img|script)\b[^>]*?\s(?:href|src)="([^"]*)"', text)
    ]


def test_no_link_is_broken(site):
    texts = {path: path.read_text(encoding="utf-8") for path in pages(site)}
    anchors = {path: set(re.findall(r'\sid="([^"]*)"', text)) for path, text in texts.items()}
    broken = []
    for path, text in texts.items():
        for link in links(text):
            address, anchor = urldefrag(urljoin(path.as_uri(), link))
            if urlparse(address).scheme != "file":
                continue
            target = Path(unquote(urlparse(address).path))
            known = target in anchors and anchor
            if not target.exists() or (known and unquote(anchor) not in anchors[target]):
                broken.append(f"{path.name}: {link}")
    assert sorted(set(broken)) == []


def test_pages_are_light(site):
    """HTML and a page's own pictures: at most 2 MB."""
    for path in pages(site):
        text = path.read_text(encoding="utf-8")
        own = {urljoin(path.as_uri(), src) for src in re.findall(r'<img\b[^>]*\ssrc="([^":]*)"', text)}
        weight = len(text.encode()) + sum(Path(unquote(urlparse(src).path)).stat().st_size for src in own)
        assert weight <= 2_000_000, f"{path.name}: {weight:,} bytes"


def test_first_page_says_what_it_is_and_for_whom(site):
    text = re.sub(r"<[^>]+>", " ", (site / "book" / "index.html").read_text(encoding="utf-8"))
    for words in ("variational autoencoder", "agency", "notebook"):
        assert words in text.lower()
    assert "url=book/index.html" in (site / "index.html").read_text(encoding="utf-8")


def test_learner_notebooks_are_offered(site):
    for notebook in [*(ROOT / "book").glob("[0-9]*.ipynb"), ROOT / "book" / "my-creatives.ipynb"]:
        offered = site / "learner" / notebook.name
        assert offered.exists()
        text = offered.read_text(encoding="utf-8")
        assert "BEGIN SOLUTION" not in text and '"outputs": []' in text
        page = (site / "book" / f"{notebook.stem}.html").read_text(encoding="utf-8")
        assert f'href="../learner/{notebook.name}"' in page
    assert '"source_hidden": true' in text  # the app shows no code
