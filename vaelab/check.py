"""`vaelab check`: is this machine ready? Every line begins with OK, or with -- and ends in what to do."""

import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

PYTHONS = ((3, 11), (3, 13))  # the first and the last one supported
EXTRAS = {
    "tools": "your own pictures",
    "lab": "the notebooks",
    "book": "building the site",
    "test": "./lab test",
}
BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "microsoft-edge",
    "msedge",
)
BROWSER_FILES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
    r"C:\Program Files\Microsoft\Edge\Application\msedge.exe",
)


class Line(NamedTuple):
    """One finding. `needed`: without it nothing here works, so the command's exit code is 1."""

    ok: bool
    text: str
    needed: bool = False


def python_version() -> Line:
    fits = PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]
    advice = "" if fits else ": take Python 3.11, 3.12 or 3.13"
    return Line(
        fits, f"Python {platform.python_version()} on {platform.system()} {platform.machine()}{advice}", True
    )


def packages() -> Iterator[Line]:
    """The library's own requirements first, then each extra's, against the bounds of the installed vaelab."""
    from packaging.requirements import Requirement

    try:
        required = [Requirement(text) for text in metadata.requires("vaelab") or []]
    except metadata.PackageNotFoundError:
        yield Line(False, "vaelab itself is not installed: run `pip install -e .` in its folder", True)
        return
    always = [r for r in required if not r.marker or r.marker.evaluate({"extra": ""})]
    yield compared("the library", always, "pip install vaelab", needed=True)
    for extra, purpose in EXTRAS.items():
        own = [
            r
            for r in required
            if r not in always and r.name != "vaelab" and r.marker.evaluate({"extra": extra})
        ]
        yield compared(f"extra {extra} ({purpose})", own, f"pip install 'vaelab[{extra}]'")


def compared(title: str, required: list, install: str, needed: bool = False) -> Line:
    """One line for a list of requirements: what is there, or what is missing and how to get it."""
    if not required:
        return Line(False, f"{title}: not known to the installed vaelab: run `{install}`", needed)
    found = {r.name: version_of(r.name) for r in required}
    bad = [f"{r.name} {found[r.name] or 'missing'} (wanted: {r.specifier})" for r in required
           if not found[r.name] or not r.specifier.contains(found[r.name], prereleases=True)]  # fmt: skip
    if bad:
        return Line(False, f"{title}: {', '.join(bad)}: run `{install}`", needed)
    return Line(
        True, f"{title}: " + ", ".join(f"{name} {version}" for name, version in found.items()), needed
    )


def version_of(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def disk(needed_mb: int = 500) -> Line:
    """Room for checkpoints and for what training writes aside."""
    free = shutil.disk_usage(Path.cwd()).free // 10**6
    advice = "" if free >= needed_mb else f": make room, training needs about {needed_mb} MB"
    return Line(free >= needed_mb, f"disk: {free:,} MB free in {Path.cwd()}{advice}", needed=True)


def threads() -> Line:
    """More threads than cores is the one setting that makes training ten times slower."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    used, device = (
        torch.get_num_threads(),
        "GPU: " + torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU",
    )
    advice = "" if used <= cores else f": set OMP_NUM_THREADS={cores}"
    return Line(used <= cores, f"torch uses {used} of {cores} cores, {device}{advice}")


def browser() -> str | None:
    """The path of a Chrome, Edge or Chromium on this machine, or None."""
    found = (shutil.which(name) for name in BROWSERS)
    return next((path for path in found if path), None) or next(
        (p for p in BROWSER_FILES if os.path.exists(p)), None
    )


def browser_line() -> Line:
    path = browser()
    return Line(bool(path), f"browser: {path}" if path else "browser: none of Chrome, Edge and Chromium found: "
                "install one (Debian: `apt install chromium`) if you want to run the book's own tests")  # fmt: skip


def pictures(n: int, seed: int = 0):
    """`(n, 3, 32, 32)` float pictures in [0, 1]: one coloured disc each, anywhere."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    centre = torch.rand(n, 2, 1, 1, generator=generator) * 16 + 8
    colour = torch.rand(n, 3, 1, 1, generator=generator)
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    disc = ((y - centre[:, :1]) ** 2 + (x - centre[:, 1:]) ** 2 < 36).float()
    return disc * colour + (1 - disc)


def training(seconds: float) -> Line:
    """Train a small VAE for about that long and see whether its loss falls."""
    from vaelab.models import vae
    from vaelab.training import fit

    model, images = vae((3, 32, 32), latent=4, channels=(16, 32)), pictures(512)
    first = fit(model, images, steps=1, progress=False)  # also loads accelerate, which takes its time
    began = time.perf_counter()
    fit(model, images, steps=20, progress=False)
    steps = max(20, int(20 * seconds / (time.perf_counter() - began)))
    history = fit(model, images, steps=steps, record_every=10, progress=False)
    duration = time.perf_counter() - began
    before, after = first.records[0]["loss"], history.last["loss"]
    speed = f"{64 * (steps + 20) / duration:,.0f} pictures of 32 x 32 a second"
    advice = "" if after < before else ": it should fall; please report this with the lines above"
    return Line(
        after < before,
        f"training: loss {before:,.0f} -> {after:,.0f} nats in {duration:.0f} s, {speed}{advice}",
        True,
    )


def findings(seconds: float) -> Iterator[Line]:
    yield python_version()
    yield from packages()
    yield disk()
    yield threads()
    yield browser_line()
    yield training(seconds)


def report(seconds: float = 10.0) -> int:
    """Print every finding as it comes. Returns 0, or 1 if something needed is missing."""
    failed = False
    for line in findings(seconds):
        print("OK " if line.ok else "-- ", line.text, flush=True)
        failed |= line.needed and not line.ok
    return int(failed)
