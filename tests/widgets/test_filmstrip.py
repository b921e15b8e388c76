"""The filmstrip shows the frame it says it shows, with the values measured there, however the reader moves it."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from vaelab.widgets import Filmstrip, Reel
from vaelab.widgets.page import GUTTER

STEPS = 9
SHADES = torch.linspace(0.1, 0.9, STEPS)
NOISE = [0.0, 0.1, 0.2, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0]
CURVES = {"brand & pack": 1 - SHADES, "fresh": SHADES**2}


def shaded(size=(48, 64)):
    """Nine pictures that tell themselves apart: frame i has the grey SHADES[i] at the left, its complement right."""
    frames = SHADES.reshape(-1, 1, 1, 1).expand(-1, 3, *size).clone()
    frames[..., size[1] // 2 :] = 1 - frames[..., size[1] // 2 :]
    return frames


def filmstrip():
    alike = {"curves": CURVES, "words": [f'step {i} "<b>"' for i in range(1, 10)], "marks": {"blend point": 0.5}}
    return Filmstrip(
        Reel("There", shaded(), **alike, band=(0.4, 0.6), xlabel="share", ylabel="of 1", start=3, alt="Grey on grey."),
        Reel("Back & forth", shaded().flip(0), {"copies": [-4.0, *range(1, 9)]}, NOISE, xlabel="noise"),
        Reel("Plain", shaded(size=(8, 8))),
        name="test",
    )  # fmt: skip


def sprite(reel):
    kind, data = re.match("data:image/(.*);base64,(.*)", reel.sprite).groups()
    return kind, np.asarray(Image.open(io.BytesIO(base64.b64decode(data))), float) / 255


@pytest.mark.parametrize("size, kind", [((48, 64), "jpeg"), ((8, 8), "png"), ((50, 37), "jpeg")])
def test_every_frame_lies_in_the_sprite_with_a_border_of_its_own(size, kind):
    reel = Reel("There", shaded(size=size))
    found, pixels = sprite(reel)
    (high, wide), (h, w) = reel.cell, size
    assert (found, reel.columns, pixels.shape) == (kind, 3, (3 * high, 3 * wide, 3))
    for i in range(STEPS):
        y, x = i // 3 * high, i % 3 * wide
        inner = pixels[y + GUTTER : y + GUTTER + h, x + GUTTER : x + GUTTER + w]
        np.testing.assert_allclose(inner, shaded(size=size)[i].permute(1, 2, 0), atol=0.03)
        np.testing.assert_allclose(pixels[y : y + high, x : x + GUTTER], float(SHADES[i]), atol=0.03)


def test_a_reel_of_25_frames_is_light_and_a_heavy_one_is_refused():
    smooth = torch.nn.functional.interpolate(torch.rand(41, 3, 16, 16, generator=torch.Generator().manual_seed(0)), 128, mode="bicubic")
    assert 20_000 < len(Filmstrip(Reel("Ads", smooth[:25])).to_html()) < 200_000
    noise = torch.rand(41, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=r"Reel 'Ads' needs fewer or smaller frames: these are \d+ kB, at most 400"):
        Reel("Ads", noise)


@pytest.mark.parametrize(
    "frames, options, words",
    [
        (torch.rand(3, 8, 8), {}, r"frames of shape .* not \(3, 8, 8\)"),
        (torch.rand(1, 3, 8, 8), {}, r"frames of shape .* not \(1, 3, 8, 8\)"),
        (torch.rand(42, 3, 8, 8), {}, "frames of shape"),
        (torch.rand(3, 3, 8, 8), {"words": ["a", "b"]}, "words for each of its 3 frames, not 2"),
        (torch.rand(3, 3, 8, 8), {"curves": {"fresh": [1, 2]}}, "one finite number for each of its 3 frames in 'fresh'"),
        (torch.rand(3, 3, 8, 8), {"curves": {"fresh": [1, 2, float("nan")]}}, "one finite number .* 'fresh'"),
        (torch.rand(3, 3, 8, 8), {"positions": [0, 1]}, "one finite number for each of its 3 frames in 'positions'"),
        (torch.rand(3, 3, 8, 8), {"positions": [0, 2, 1]}, "positions that rise"),
        (torch.rand(3, 3, 8, 8), {"marks": {"here": 0.5}}, "curves, for marks and band"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_refused_in_a_sentence(frames, options, words):
    with pytest.raises(ValueError, match=f"^Reel 'Ads' needs {words}"):
        Reel("Ads", frames, **options)


def test_reels_must_be_of_one_length_and_state_must_exist():
    with pytest.raises(ValueError, match=r"equal length; these have \[3, 4\] frames"):
        Filmstrip(Reel("A", torch.rand(3, 3, 8, 8)), Reel("B", torch.rand(4, 3, 8, 8)))
    film = filmstrip()
    with pytest.raises(ValueError, match="has no 'Sideways'; it has There, Back & forth, Plain, each of 9 frames"):
        film.reel = "Sideways"
    with pytest.raises(ValueError, match="has no 9"):
        film.position = 9
    assert (film.reel, film.position) == ("There", 3)


def test_nothing_measured_stands_in_the_script():
    """Its last digits differ between processors, and scripts of committed notebooks are compared exactly."""
    pages = [
        Filmstrip(Reel("A", shaded() + shift, {"fresh": SHADES + shift}, marks={"m": 0.5 + shift})).to_html()
        for shift in (0.0, 0.004)
    ]
    scripts = [re.search("<script>.*</script>", page, re.DOTALL)[0] for page in pages]
    heads = [page.partition("<style>")[0] for page in pages]
    assert pages[0] != pages[1] and scripts[0] == scripts[1] and heads[0] == heads[1]


def test_the_notebook_output_is_the_same_every_time():
    film = filmstrip()
    data, _ = film._repr_mimebundle_()
    assert data["text/plain"] == repr(film) == "Filmstrip(There, Back & forth, Plain: 9 frames each)"
    assert "application/vnd.jupyter.widget-view+json" in data
    assert data["text/html"] == film.to_html() == filmstrip().to_html()


def rungs(markup):
    return [float(words) for words in re.findall(r">([\d.−-]+)</text>", markup.partition('class="vf-sizes"')[2])]


def test_charts_alike_have_one_scale_and_shares_run_from_0_to_1():
    low, high = Reel("low", shaded(), {"kl": 10 * SHADES}), Reel("high", shaded(), {"kl": 40 * SHADES})
    other = Reel("share", shaded(), {"share": SHADES})
    reels = [low, high, other]
    assert [rungs(reel.markup(reels)) for reel in reels] == [[0, 10, 20, 30, 40], [0, 10, 20, 30, 40], [0, 0.25, 0.5, 0.75, 1]]
    assert rungs(low.markup())[-1] == 10
    assert rungs(Reel("just above", shaded(), {"share": SHADES / 0.9 * 1.000001}).markup())[-1] == 1
    flat = rungs(Reel("flat", shaded(), {"share": [0.3] * STEPS}).markup())
    assert flat[0] < 0.3 < flat[-1]
    assert rungs(Reel("far from 0", shaded(), {"psnr": 30 + SHADES}).markup())[0] >= 30


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A page that shows the same filmstrip twice."""
    file = tmp_path_factory.mktemp("site") / "index.html"
    page = "<!doctype html><html lang='en'><meta charset='utf-8'><title>Film</title><body>{0}{0}</body></html>"
    file.write_text(page.format(filmstrip().to_html()), encoding="utf-8")
    return file.as_uri()


@pytest.fixture
def page(browser, site):
    page = browser.new_page(viewport={"width": 1100, "height": 900})
    page.requests, page.errors = [], []
    page.on("request", lambda request: page.requests.append(request.url))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("console", lambda message: page.errors.append(message.text))
    page.goto(site)
    yield page
    assert not page.errors
    assert [url for url in page.requests if not url.startswith("data:")] == [site]
    page.close()


def frame_shown(page, n=0):
    """The index of the frame that the n-th picture shows, read from its pixels; its two halves must agree."""
    seen = Image.open(io.BytesIO(page.locator(".vf-window").nth(n).screenshot())).convert("L")
    pixels = np.asarray(seen, float) / 255
    height, width = pixels.shape
    left, right = (pixels[height // 5 : -height // 5, width * a // 10 : width * b // 10] for a, b in ((1, 4), (6, 9)))
    assert max(left.std(), right.std()) < 0.02
    found = [int((SHADES - float(grey)).abs().argmin()) for grey in (left.mean(), 1 - right.mean())]
    assert found[0] == found[1]
    return found[0]


def values(page, n=0):
    return page.locator(".vf-reel").nth(n).locator("dd").all_inner_texts()


def cursor(page, n=0):
    """Where the cursor stands, as a share of the chart's box."""
    box, line = (page.locator(name).nth(n).bounding_box() for name in (".vf-area", ".vf-cursor"))
    return (line["x"] + line["width"] / 2 - box["x"]) / box["width"]


def test_it_begins_at_its_start_and_keys_move_it(page):
    assert frame_shown(page) == 3
    page.get_by_role("slider").first.focus()
    for keys, frame in ((["ArrowRight"] * 2, 5), (["ArrowLeft"], 4), (["Home"], 0), (["End"], 8), (["ArrowRight"], 8)):
        for key in keys:
            page.keyboard.press(key)
        assert frame_shown(page) == frame
        share, brand, fresh = values(page)
        shade = float(SHADES[frame])
        assert [float(share), float(brand), float(fresh)] == pytest.approx([frame / 8, 1 - shade, shade**2], abs=0.0051)
        assert page.locator(".vf-words").first.inner_text() == f'step {frame + 1} "<b>"'
        assert cursor(page) == pytest.approx(frame / 8, abs=0.01)


def test_the_dots_stand_on_the_curves(page):
    page.get_by_role("slider").first.focus()
    page.keyboard.press("ArrowRight")
    area = page.locator(".vf-area").first.bounding_box()
    for i, height in enumerate((0.5, 0.25)):  # at frame 4 the curves are at 1 - 0.5 and at 0.5², of a scale from 0 to 1
        dot = page.locator(".vf-dot").nth(i).bounding_box()
        assert (area["y"] + area["height"] - dot["y"] - dot["height"] / 2) / area["height"] == pytest.approx(height, abs=0.02)
    assert page.locator(".vf-marks").first.get_attribute("d") == "M0.5 0V1"
    assert page.locator(".vf-band").first.get_attribute("d") == "M0.4 0H0.6V1H0.4z"
    assert page.locator("text=blend point").first.is_visible()


@pytest.mark.parametrize("surface", [".vf-window", ".vf-area"])
def test_dragging_moves_it_and_leaves_the_other_filmstrip_alone(page, surface):
    box = page.locator(surface).first.bounding_box()
    at = lambda x: (box["x"] + box["width"] * x, box["y"] + box["height"] / 2)
    page.mouse.move(*at(0.5))
    page.mouse.down()
    assert frame_shown(page) == 4
    page.mouse.move(*at(0.74), steps=4)
    assert frame_shown(page) == 6
    page.mouse.move(*at(1.4))  # off the picture: held at its end
    page.mouse.up()
    page.mouse.move(*at(0.2))  # let go: nothing follows
    assert frame_shown(page) == 8
    page.keyboard.press("ArrowLeft")  # the keys work at once
    assert frame_shown(page) == 7
    assert frame_shown(page, 3) == 3


def test_a_finger_moves_it_and_still_scrolls_the_page(browser, site):
    context = browser.new_context(has_touch=True, viewport={"width": 375, "height": 700})
    page = context.new_page()
    page.goto(site)
    box = page.locator(".vf-window").first.bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] * 0.25, box["y"] + box["height"] / 2)
    assert frame_shown(page) == 2
    assert page.locator(".vf-window").first.evaluate("(e) => getComputedStyle(e).touchAction") == "pan-y"
    context.close()


def test_the_slider_itself_can_be_dragged(page):
    slider = page.get_by_role("slider").first
    box = slider.bounding_box()
    page.mouse.click(box["x"] + box["width"] - 2, box["y"] + box["height"] / 2)
    assert frame_shown(page) == 8


def test_tabs_keep_the_position(page):
    page.get_by_role("slider").first.focus()
    page.keyboard.press("ArrowRight")
    page.get_by_role("button", name="Back & forth").first.click()
    assert page.locator(".vf-reel").nth(0).is_hidden() and page.locator(".vf-reel").nth(1).is_visible()
    assert page.get_by_role("button", name="Back & forth").first.get_attribute("aria-pressed") == "true"
    assert frame_shown(page, 1) == 4 and values(page, 1) == ["1.0", "4"]  # its fifth frame, the middle of both
    page.get_by_role("slider").first.focus()
    page.keyboard.press("Home")
    assert frame_shown(page, 1) == 8 and values(page, 1) == ["0.0", "−4"]
    page.get_by_role("button", name="There").first.click()
    assert frame_shown(page) == 0


def test_the_chart_finds_the_nearest_of_uneven_positions(page):
    page.get_by_role("button", name="Back & forth").first.click()
    box = page.locator(".vf-area").nth(1).bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.13, box["y"] + 20)  # at 0.52 of 4, where the nearest is 0.5
    assert values(page, 1)[0] == "0.5" and frame_shown(page, 1) == STEPS - 1 - 3
    assert cursor(page, 1) == pytest.approx(0.5 / 4, abs=0.01)


def test_it_has_names_for_those_who_cannot_see_it(page):
    slider = page.get_by_role("slider").first
    assert slider.get_attribute("aria-label") == "There"
    assert slider.get_attribute("aria-valuetext") == 'step 4 "<b>", share 0.38, brand & pack 0.60, fresh 0.16'
    assert page.locator(".vf-sprite").first.get_attribute("alt") == "Grey on grey."
    assert page.locator(".vf-sprite").nth(1).get_attribute("alt") == "Back & forth: 9 pictures in a row, shown one at a time."
    page.keyboard.press("Tab")
    slider.focus()
    assert slider.evaluate("(e) => getComputedStyle(e).outlineStyle") == "solid"


def test_without_scripts_stills_charts_and_values_remain(browser, site):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(site)
    assert [frame_shown(page, n) for n in (0, 1)] == [3, 8]  # each at its own start, the second from the back
    assert page.locator(".vf-chart").count() == 4 and page.locator(".vf-chart").first.is_visible()
    assert values(page)[1:] == ["0.60", "0.16"] and cursor(page) == pytest.approx(3 / 8, abs=0.01)
    assert page.locator("input, button").count() == 0
    assert page.locator(".vf-words").nth(2).inner_text() == "1 of 9"
    assert "A still picture" in page.locator(".vf-help").first.inner_text()
    context.close()


@pytest.mark.parametrize("width", [320, 360])
def test_on_a_telephone_it_stacks_and_nothing_sticks_out(page, width):
    page.set_viewport_size({"width": width, "height": 667})
    picture, chart = (page.locator(name).first.bounding_box() for name in (".vf-window", ".vf-chart"))
    assert chart["y"] >= picture["y"] + picture["height"] and picture["width"] > 0.85 * width
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.set_viewport_size({"width": 1100, "height": 900})
    picture, chart = (page.locator(name).first.bounding_box() for name in (".vf-window", ".vf-chart"))
    assert chart["x"] >= picture["x"] + picture["width"] and picture["width"] == pytest.approx(384)


def test_the_widget_follows_python_and_tells_it(browser):
    """The anywidget's own render function, with a stand-in for the notebook's model."""
    film, page = filmstrip(), browser.new_page(viewport={"width": 1100, "height": 900})
    page.set_content("<div id='cell'></div>")
    page.evaluate(
        """async ([code, state]) => {
          const module = await import(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
          const listeners = {};
          window.state = state;
          window.model = {
            get: (key) => state[key],
            set: (changes) => { for (const key in changes) { state[key] = changes[key]; listeners[`change:${key}`]?.(); } },
            save_changes: () => {},
            on: (name, run) => (listeners[name] = run),
          };
          module.default.render({ model: window.model, el: document.getElementById("cell") });
        }""",
        [film._esm, {"body": film.body, "spec": film.spec, "reel": "Back & forth", "position": 2}],
    )
    assert page.locator(".vf-reel").nth(1).is_visible() and frame_shown(page, 1) == STEPS - 1 - 2
    page.evaluate("window.model.set({ position: 7, reel: 'There' })")
    assert frame_shown(page) == 7
    page.get_by_role("slider").focus()
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("[window.state.reel, window.state.position]") == ["There", 6]
    page.get_by_role("button", name="Back & forth").click()
    assert page.evaluate("[window.state.reel, window.state.position]") == ["Back & forth", 6]
    page.close()
