"""A browser for the live figures."""

import os

import pytest

from vaelab.check import browser as browser_on_this_machine

QUIET = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
QUIET += ["--disable-component-update", "--disable-quic"]


@pytest.fixture(scope="module")
def browser():
    found = browser_on_this_machine()
    if found is None:
        words = "no Chrome, Edge or Chromium found; install one, such as `sudo apt install chromium`"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(words)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=QUIET)
        yield chromium
        chromium.close()
