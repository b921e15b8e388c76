"""The explorer: JavaScript decodes what torch decodes, and a reader can move the point in every way promised."""

import functools
import http.server
import re
import threading

import numpy as np
import pytest
import torch
from torch import nn

from vaelab import models
from vaelab.networks import ConvDecoder, MLPDecoder
from vaelab.widgets import Explorer, Panel, count_multiply_adds, count_parameters, export
from vaelab.widgets.explorer import SCRIPT


def lively(decoder, seed=0):
    """The decoder with weights large enough that every layer matters."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in decoder.parameters():
        fan = parameter[0].numel() if parameter.ndim > 1 else 4
        parameter.data = torch.randn(parameter.shape, generator=generator) * 1.5 / fan**0.5
    return decoder


def upsampling():
    return nn.Sequential(
        nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 6 * 2 * 3), nn.Unflatten(1, (6, 2, 3)), nn.Tanh(),
        nn.Upsample(scale_factor=2), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(),
        nn.Conv2d(8, 12, 3, padding=1, bias=False), nn.PixelShuffle(2), nn.GroupNorm(3, 3),
        nn.ConvTranspose2d(3, 5, 2, stride=2), nn.SiLU(), nn.Conv2d(5, 1, 5, padding=2), nn.Sigmoid(),
    )  # fmt: skip


DECODERS = {
    "conv": lambda: ConvDecoder(2, (3, 32, 32), channels=(24, 16, 8)),
    "conv, not square, no norm": lambda: ConvDecoder(2, (1, 16, 32), channels=(8, 6), groups=0),
    "mlp": lambda: nn.Sequential(MLPDecoder(2, (3, 8, 6), hidden=(20, 30)), nn.Sigmoid()),
    "upsampling": upsampling,
}


@pytest.mark.parametrize("kind", DECODERS)
def test_javascript_decodes_what_torch_decodes(browser, kind):
    decoder = lively(DECODERS[kind]())
    codes = [[0.0, 0.0], [0.7, -1.3], [-2.9, 2.4]]
    page = browser.new_page()
    got = page.evaluate(
        "([script, spec, codes]) => new Function('spec', 'codes', script + "
        "'const decode = makeDecoder(spec); return codes.map((z) => Array.from(decode(z)));')(spec, codes)",
        [SCRIPT, export.pack(export.layers(decoder)), codes],
    )
    page.close()
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.data = parameter.half().float()
        expected = decoder(torch.tensor(codes)).permute(0, 2, 3, 1).reshape(len(codes), -1)
    assert expected.std(0).mean() > 0.01  # three different pictures
    np.testing.assert_allclose(got, expected, atol=1e-3, rtol=0)


def test_counts_are_those_done_by_hand():
    decoder = nn.Sequential(
        nn.Linear(2, 8), nn.Unflatten(1, (2, 2, 2)), nn.ConvTranspose2d(2, 4, 4, 2, 1), nn.Conv2d(4, 1, 3, padding=1)
    )
    assert count_parameters(decoder) == (16 + 8) + (2 * 4 * 16 + 4) + (4 * 9 + 1)
    assert count_multiply_adds(decoder) == 16 + 4 * (2 * 4 * 16) + 16 * (4 * 9)


@pytest.mark.parametrize(
    "decoder, error, words",
    [
        (nn.Sequential(nn.Linear(2, 4), nn.GELU(), nn.Unflatten(1, (1, 2, 2))), TypeError, "cannot run the layer GELU"),
        (ConvDecoder(3, (3, 16, 16), channels=(8, 8)), ValueError, "two-dimensional codes"),
        (nn.Sequential(nn.Linear(2, 4)), ValueError, r"must give pictures .* \(2, 4\)"),
        (MLPDecoder(2, (3, 32, 32), hidden=(64,)), ValueError, "199,872 .*150,000"),
        (ConvDecoder(2, (3, 128, 128), channels=(64, 32, 16)), ValueError, "multiply-adds"),
        (nn.Sequential(nn.Linear(2, 9), nn.Unflatten(1, (1, 3, 3)), nn.Conv2d(1, 1, 3, stride=2)), TypeError, "Conv2d"),
    ],
)  # fmt: skip
def test_what_cannot_be_shown_is_refused_in_a_sentence(decoder, error, words):
    with pytest.raises(error, match=words):
        Panel("Ads", decoder)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 4), nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 1, 3, padding=1))

    def forward(self, z):
        return self.body(z) + 1 / 3


def test_a_module_that_does_more_than_its_layers_is_refused():
    with pytest.raises(TypeError, match="Residual does more than run its layers in order"):
        Panel("Ads", Residual())


def test_codes_and_labels_must_fit():
    decoder = MLPDecoder(2, (1, 8, 8), hidden=(8,))
    with pytest.raises(ValueError, match=r"codes of shape \(N, 2\)"):
        Panel("Ads", decoder, torch.zeros(4, 3))
    with pytest.raises(ValueError, match="3 codes and 2 labels"):
        Panel("Ads", decoder, torch.zeros(3, 2), labels=["a", "b"])


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_a_model_shows_the_mean_of_its_decoding(likelihood):
    model = models.build("vae", (1, 8, 8), 2, kind="mlp", channels=(16, 8), likelihood=likelihood)
    z = torch.tensor([[0.4, -0.8]])
    got = Panel("Digits", model).layers(z.double())
    np.testing.assert_allclose(got, model.decode(z).mean.detach(), atol=2e-3)


CODES = torch.tensor([[1.0, 1.0], [1.0, 1.2], [-2.0, 0.0], [-2.0, 0.3]])


@pytest.fixture(scope="module")
def explorer():
    ads = lively(ConvDecoder(2, (3, 32, 32), channels=(16, 8)))
    digits = lively(MLPDecoder(2, (1, 8, 8), hidden=(16,)), seed=1)
    return Explorer(
        Panel("Ads", ads, CODES, ["can", "can", "jar & co", "jar & co"], item="ad", alt="A map of ads."),
        Panel("Digits", digits, extent=2.0, alt='Eight "dark" digits.'),
    )


def test_the_notebook_output_is_the_same_every_time(explorer):
    data, _ = explorer._repr_mimebundle_()
    assert data["text/plain"] == repr(explorer) == "Explorer(Ads: z (2,) → picture (3, 32, 32), Digits: z (2,) → picture (1, 8, 8))"
    assert "application/vnd.jupyter.widget-view+json" in data
    assert data["text/html"] == explorer.to_html()
    one = Explorer(Panel("A", lively(MLPDecoder(2, (1, 8, 8), hidden=(4,)))))
    two = Explorer(Panel("A", lively(MLPDecoder(2, (1, 8, 8), hidden=(4,)))))
    assert one.to_html() == two.to_html()
    assert re.search(r'id="vaelab-explorer-[0-9a-f]{8}"', one.to_html())


def test_codes_stay_out_of_the_script():
    """Their last digits differ between processors, and scripts of committed notebooks are compared exactly."""
    decoder = lively(MLPDecoder(2, (1, 8, 8), hidden=(4,)))
    pages = [Explorer(Panel("A", decoder, CODES + shift)).to_html() for shift in (0.0, 1e-4)]
    scripts = [re.search("<script>.*</script>", page, re.DOTALL)[0] for page in pages]
    assert pages[0] != pages[1] and scripts[0] == scripts[1]


def test_the_heaviest_panel_allowed_still_makes_a_light_page():
    decoder = lively(ConvDecoder(2, (3, 64, 64), channels=(108, 68, 16, 16)))
    assert 140_000 < count_parameters(decoder) <= export.MAX_PARAMETERS
    assert len(Explorer(Panel("Ads", decoder)).to_html()) < 500_000


def test_an_unknown_panel_is_refused(explorer):
    with pytest.raises(ValueError, match="no panel 'Photos'; it has Ads, Digits"):
        explorer.panel = "Photos"


@pytest.fixture(scope="module")
def site(explorer, tmp_path_factory):
    """A folder with one page that shows the same explorer twice."""
    folder = tmp_path_factory.mktemp("site")
    page = "<!doctype html><html lang='en'><meta charset='utf-8'><title>Explorer</title><body>{0}{0}</body></html>"
    (folder / "index.html").write_text(page.format(explorer.to_html()), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def address(site):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=site)
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/index.html"
        server.shutdown()


@pytest.fixture
def page(browser, site):
    page = browser.new_page(viewport={"width": 900, "height": 700})
    page.goto((site / "index.html").as_uri())
    yield page
    page.close()


def point(page, n=0):
    """The point that the first explorer's n-th panel says it is at."""
    words = page.locator(".vx-panel").nth(n).locator(".vx-z").inner_text()
    return [float(word) for word in words.replace("−", "-").strip("z =()").split(",")]


def pixels(page, n=0):
    script = "(c) => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"
    return np.array(page.locator("canvas.vx-picture").nth(n).evaluate(script))


def settle(page):
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def press(page, *keys):
    for key in keys:
        page.keyboard.press(key)
    settle(page)


@pytest.mark.parametrize("scheme", ["file", "http"])
def test_it_lives_without_kernel_or_network(browser, site, address, scheme):
    page = browser.new_page()
    requests, errors = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    start = address if scheme == "http" else (site / "index.html").as_uri()
    page.goto(start)
    before = pixels(page)
    page.locator(".vx-map").first.focus()
    press(page, "Shift+ArrowRight")
    assert np.abs(pixels(page) - before).max() > 8
    foreign = [url for url in requests if not url.startswith(("data:", start)) and not url.endswith("/favicon.ico")]
    assert not errors and not foreign
    page.close()


def test_the_canvas_shows_the_decoded_picture(page, explorer):
    layers = Panel("Ads", lively(ConvDecoder(2, (3, 32, 32), channels=(16, 8)))).layers
    expected = layers(torch.zeros(1, 2).double())[0].clamp(0, 1).permute(1, 2, 0) * 255
    shown = pixels(page).reshape(32, 32, 4)
    assert (shown[..., 3] == 255).all()
    np.testing.assert_allclose(shown[..., :3], expected, atol=1)


def test_keys_move_the_point_and_stop_at_the_border(page):
    page.locator(".vx-map").first.focus()
    press(page, "ArrowRight", "ArrowRight", "ArrowUp")
    assert point(page) == [0.1, 0.05]
    press(page, "Shift+ArrowDown", "ArrowLeft")
    assert point(page) == [0.05, -0.25]
    press(page, *["Shift+ArrowLeft"] * 12)
    assert point(page) == [-3.0, -0.25]
    press(page, "Home")
    assert point(page) == [0.0, 0.0]


def test_dragging_moves_the_point_and_leaves_the_other_explorer_alone(page):
    before, box = pixels(page), page.locator(".vx-map").first.bounding_box()
    at = lambda x, y: (box["x"] + box["width"] * x, box["y"] + box["height"] * y)
    page.mouse.move(*at(0.5, 0.5))
    page.mouse.down()
    page.mouse.move(*at(0.75, 0.25), steps=4)
    settle(page)
    np.testing.assert_allclose(point(page), [1.5, 1.5], atol=0.02)
    assert np.abs(pixels(page) - before).max() > 8
    page.mouse.move(*at(1.6, 0.5))  # off the map: held at its border
    page.mouse.up()
    page.mouse.move(*at(0.2, 0.2))  # let go: nothing follows
    settle(page)
    np.testing.assert_allclose(point(page), [3.0, 0.0], atol=0.02)
    assert point(page, 2) == [0.0, 0.0]
    handle = page.locator(".vx-handle").first.bounding_box()
    assert handle["x"] + handle["width"] / 2 == pytest.approx(box["x"] + box["width"], abs=1.5)


def test_a_finger_moves_the_point(browser, site):
    context = browser.new_context(has_touch=True, viewport={"width": 375, "height": 700})
    page = context.new_page()
    page.goto((site / "index.html").as_uri())
    box = page.locator(".vx-map").first.bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] * 0.25, box["y"] + box["height"] * 0.5)
    settle(page)
    np.testing.assert_allclose(point(page), [-1.5, 0.0], atol=0.03)
    assert page.locator(".vx-map").first.evaluate("(e) => getComputedStyle(e).touchAction") == "none"
    context.close()


def test_the_readout_names_the_nearest_picture_or_says_far(page):
    map_, near = page.locator(".vx-map").first, page.locator(".vx-near").first
    assert near.inner_text() == "far from every real ad: the nearest is 1.41 away"
    map_.focus()
    press(page, *["Shift+ArrowRight"] * 3, *["Shift+ArrowUp"] * 3)
    assert near.inner_text() == "nearest real ad: can, 0.14 away"
    press(page, "Home", *["Shift+ArrowLeft"] * 6)
    assert near.inner_text() == "nearest real ad: jar & co, 0.20 away"
    page.wait_for_function("document.querySelector('.vx-spoken').textContent.startsWith('z = (−1.80, 0.00). nearest')")


def test_tabs_show_one_panel_each_with_its_own_point(page):
    page.locator(".vx-map").first.focus()
    press(page, "ArrowRight")
    page.get_by_role("button", name="Digits").first.click()
    assert page.locator(".vx-panel").nth(0).is_hidden() and page.locator(".vx-panel").nth(1).is_visible()
    assert page.get_by_role("button", name="Digits").first.get_attribute("aria-pressed") == "true"
    assert len(np.unique(pixels(page, 1))) > 8
    page.locator(".vx-map").nth(1).focus()
    press(page, "Shift+ArrowUp")
    assert point(page, 1) == [0.0, 0.2]
    page.get_by_role("button", name="Ads").first.click()
    assert point(page) == [0.05, 0.0]


def test_it_has_names_for_those_who_cannot_see_it(page):
    map_ = page.locator(".vx-map").first
    assert map_.get_attribute("aria-label").startswith("Ads: a map of decoded pictures. Drag the point")
    assert map_.get_attribute("tabindex") == "0"
    assert page.locator(".vx-picture").first.get_attribute("aria-label") == "Decoded picture at z = (0.00, 0.00)"
    assert page.locator(".vx-tiles").nth(1).get_attribute("alt") == 'Eight "dark" digits.'
    page.keyboard.press("Tab")
    map_.focus()
    assert map_.evaluate("(e) => getComputedStyle(e).outlineStyle") == "solid"


def test_without_scripts_still_pictures_remain(browser, site):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((site / "index.html").as_uri())
    pictures = page.locator("img")
    assert pictures.count() == 8
    for i in range(8):
        assert pictures.nth(i).is_visible() and len(pictures.nth(i).get_attribute("alt")) > 10
    assert page.locator("canvas, button").count() == 0
    assert "A still picture" in page.locator(".vx-help").first.inner_text()
    context.close()


def test_on_a_telephone_it_stacks_and_nothing_sticks_out(page):
    page.set_viewport_size({"width": 375, "height": 667})
    map_, picture = (page.locator(name).first.bounding_box() for name in (".vx-map", ".vx-picture"))
    assert picture["y"] >= map_["y"] + map_["height"]
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    page.set_viewport_size({"width": 900, "height": 700})
    map_, picture = (page.locator(name).first.bounding_box() for name in (".vx-map", ".vx-picture"))
    assert picture["x"] >= map_["x"] + map_["width"]


def test_the_widget_follows_python_and_tells_it(browser, explorer):
    """The anywidget's own render function, with a stand-in for the notebook's model."""
    page = browser.new_page()
    page.set_content("<div id='cell'></div>")
    page.evaluate(
        """async ([code, state]) => {
          const module = await import(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
          const listeners = {};
          window.state = state;
          window.saved = 0;
          window.model = {
            get: (key) => state[key],
            set: (changes) => { for (const key in changes) { state[key] = changes[key]; listeners[`change:${key}`]?.(); } },
            save_changes: () => window.saved++,
            on: (name, run) => (listeners[name] = run),
          };
          module.default.render({ model: window.model, el: document.getElementById("cell") });
        }""",
        [explorer._esm, {"body": explorer.body, "spec": explorer.spec, "panel": "Ads", "z": [0, 0]}],
    )
    before = pixels(page)
    page.evaluate("window.model.set({ z: [1, 2] })")
    settle(page)
    assert point(page) == [1.0, 2.0] and np.abs(pixels(page) - before).max() > 8
    page.locator(".vx-map").first.focus()
    press(page, "Shift+ArrowRight")
    assert page.evaluate("[window.state.panel, ...window.state.z]") == ["Ads", pytest.approx(1.3), 2]
    page.evaluate("window.model.set({ panel: 'Digits' })")
    assert page.locator(".vx-panel").nth(1).is_visible()
    page.get_by_role("button", name="Ads").click()
    assert page.evaluate("[window.state.panel, ...window.state.z]") == ["Ads", pytest.approx(1.3), 2]
    page.close()
