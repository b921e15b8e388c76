"""A review keeps every decision at once, goes on where it ended, and leaves files of others alone."""

import io
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import t

from vaelab.storage import StorageError
from vaelab.widgets import Review

N = 5
SHADES = torch.linspace(0.1, 0.5, N)  # of the made ones; the sources are as much lighter as 0.5
NAMES = ["can", 'jar "<b>"', "tube", "pouch", "bottle"]
CRITERIA = ["composition", "colour", "product presentation"]


def grey(shades):
    return shades.reshape(-1, 1, 1, 1).expand(-1, 3, 48, 40).clone()


def review(folder, **changes):
    given = {
        "pictures": grey(SHADES),
        "file": folder / "review.json",
        "sources": grey(SHADES + 0.5),
        "names": NAMES,
    }
    return Review(**{**given, **changes})


def stored(folder):
    return json.loads((folder / "review.json").read_text(encoding="utf-8"))


def test_every_decision_is_in_the_file_at_once(tmp_path):
    made = review(tmp_path)
    undecided = {"verdict": None, "scores": {}, "note": ""}
    assert stored(tmp_path)["decisions"] == dict.fromkeys(NAMES, undecided)
    made.decide("can", "accept", {"colour": 4})
    made.decide(1, "reject", note="Zu grün.")
    made.decide(0, scores={"colour": 5, "composition": 2})
    assert (
        stored(tmp_path)["decisions"]
        == made.decisions
        == dict.fromkeys(NAMES, undecided)
        | {
            "can": {"verdict": "accept", "scores": {"colour": 5, "composition": 2}, "note": ""},
            'jar "<b>"': {"verdict": "reject", "scores": {}, "note": "Zu grün."},
        }
    )
    assert stored(tmp_path)["criteria"] == CRITERIA and re.fullmatch(
        "[0-9a-f]{64}", stored(tmp_path)["pictures"]
    )
    assert made.accepted.tolist() == [True, False, False, False, False] and made.accepted.dtype == torch.bool
    assert repr(made) == "Review(2 of 5 seen, 1 accepted)"
    assert [file.name for file in tmp_path.iterdir()] == ["review.json"]


def test_it_goes_on_where_it_ended(tmp_path):
    review(tmp_path).decide("tube", "accept", {"colour": 1}, "dull")
    again = review(tmp_path, sources=None)
    assert again.decisions["tube"] == {"verdict": "accept", "scores": {"colour": 1}, "note": "dull"}
    again.decide("can", "reject")
    as_png = (grey(SHADES) * 255).round() / 255
    assert review(tmp_path, pictures=as_png).accepted.tolist() == [False, False, True, False, False]
    assert stored(tmp_path)["decisions"]["can"]["verdict"] == "reject"


def change(**parts):
    return lambda record: {**record, **parts}


def damage(**parts):
    def damaged(record):
        record["decisions"]["can"] |= parts
        return record

    return damaged


@pytest.mark.parametrize(
    "spoil, changes, words",
    [
        (None, {"pictures": grey(SHADES + 0.01)}, "it is of other pictures"),
        (None, {"criteria": ["colour"]}, "it is of other criteria"),
        (None, {"names": ["a", "b", "c", "d", "e"]}, "it is of other names"),
        (lambda record: "", {}, "it cannot be read, or no review wrote it: TypeError"),
        (lambda record: [1], {}, "it cannot be read, or no review wrote it: TypeError"),
        (lambda record: {}, {}, "it cannot be read, or no review wrote it: KeyError"),
        (change(decisions=[]), {}, "it cannot be read, or no review wrote it: AttributeError"),
        (damage(verdict="maybe"), {}, "some of its decisions are damaged"),
        (damage(scores={"colour": 6}), {}, "some of its decisions are damaged"),
        (damage(scores={"colour": True}), {}, "some of its decisions are damaged"),
        (damage(scores={"taste": 3}), {}, "some of its decisions are damaged"),
        (damage(note=None), {}, "some of its decisions are damaged"),
    ],
)  # fmt: skip
def test_a_file_that_does_not_fit_is_refused_and_left_alone(tmp_path, spoil, changes, words):
    review(tmp_path).decide("can", "accept", {"colour": 3})
    if spoil:
        (tmp_path / "review.json").write_text(json.dumps(spoil(stored(tmp_path))))
    before = (tmp_path / "review.json").read_bytes()
    with pytest.raises(
        ValueError, match=rf"cannot go on in .*review.json \(({words})\): name another file, or move"
    ) as error:
        review(tmp_path, **changes)
    assert "\n" not in str(error.value) and (tmp_path / "review.json").read_bytes() == before


@pytest.mark.parametrize("content", [b"", b'{"pictures": "12', b"\xff\xfe\x00"])
def test_a_broken_file_is_refused_and_left_alone(tmp_path, content):
    (tmp_path / "review.json").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"cannot go on in .*review.json \(it cannot be read, or no review wrote it: \w+\)"
    ):
        review(tmp_path)
    assert (tmp_path / "review.json").read_bytes() == content


def test_where_nothing_can_be_written_one_is_told(tmp_path):
    (tmp_path / "no-folder").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        review(tmp_path, file=tmp_path / "no-folder" / "review.json")
    made = review(tmp_path)
    made.file = tmp_path / "no-folder" / "review.json"
    with pytest.raises(StorageError, match="cannot be written"):
        made.decide(0, "accept")
    assert "cannot be written" in made.trouble  # the page shows it
    made.file = tmp_path / "review.json"
    made.decide(1, "accept")
    assert (
        made.trouble == "" and stored(tmp_path)["decisions"]["can"]["verdict"] == "accept"
    )  # nothing was lost


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"pictures": torch.rand(3, 8, 8)}, r"pictures of shape \(1 to 100, 3, H, W\), not \(3, 8, 8\)"),
        ({"pictures": torch.rand(101, 3, 8, 8)}, "pictures of shape"),
        ({"pictures": torch.full((5, 3, 48, 40), torch.nan)}, "finite pictures"),
        ({"sources": torch.rand(4, 3, 48, 40)}, r"sources of the pictures' shape, not \(4, 3, 48, 40\)"),
        ({"names": ["a", "b"]}, "5 names, all different"),
        ({"names": ["a", "b", "c", "d", "a"]}, "5 names, all different"),
        ({"criteria": []}, "1 to 8 criteria"),
        ({"criteria": ["colour", "colour"]}, "1 to 8 criteria, all different"),
        (
            {"pictures": torch.rand(5, 3, 256, 256), "sources": None},
            r"smaller pictures: these are \d+ kB, at most 400",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused_in_a_sentence(tmp_path, changes, words):
    with pytest.raises(ValueError, match=f"^A Review needs .*{words}"):
        review(tmp_path, **changes)
    assert not list(tmp_path.iterdir())


def test_decisions_that_mean_nothing_are_refused(tmp_path):
    made = review(tmp_path)
    before = stored(tmp_path)
    for given, words in (
        (("box", "accept"), "one of its 5 pictures, not 'box'"),
        ((5, "accept"), "one of its 5 pictures, not 5"),
        ((0, "maybe"), "the verdict 'accept' or 'reject' for 'can', not 'maybe'"),
        ((0, None, {"colour": 6}), "scores from 1 to 5"),
        ((0, None, {"colour": 2.5}), "scores from 1 to 5"),
        ((0, None, {"taste": 3}), "by criterion"),
    ):
        with pytest.raises(ValueError, match=f"^A Review needs .*{words}"):
            made.decide(*given)
    for wrong in ({}, {"can": 3}, dict.fromkeys(NAMES)):
        with pytest.raises(ValueError, match="decisions on exactly its names"):
            made.decisions = wrong
    assert stored(tmp_path) == before


def test_the_table_gives_means_and_shares_with_their_intervals(tmp_path):
    made = review(tmp_path)
    assert [(row["n"], row["value"]) for row in made.table()] == [(0, None)] * 4
    for i, (colour, verdict) in enumerate([(2, "accept"), (3, "reject"), (5, "accept"), (4, "accept")]):
        made.decide(i, verdict, {"colour": colour})
    made.decide(4, scores={"composition": 1})
    composition, colour, product, accepted = made.table()
    assert [row["what"] for row in made.table()] == [*CRITERIA, "accepted"]
    assert (composition["n"], composition["value"], product["n"]) == (1, None, 0)
    half = t.ppf(0.975, 3) * np.std([2, 3, 5, 4], ddof=1) / 2
    assert colour["n"] == 4 and colour["value"] == pytest.approx((3.5, 3.5 - half, 3.5 + half))
    # Wilson's interval of 3 in 4, by its closed form with z = 1.96.
    assert accepted["n"] == 4 and accepted["value"] == pytest.approx((0.75, 0.30064, 0.95441), abs=1e-4)


def test_the_notebook_output_is_the_same_every_time_and_names_no_folder(tmp_path):
    made = review(tmp_path)
    made.decide(0, "accept")
    data, _ = made._repr_mimebundle_()
    assert (
        data["text/plain"] == "Review(1 of 5 seen, 1 accepted)"
        and "application/vnd.jupyter.widget-view+json" in data
    )
    assert (
        data["text/html"] == made.to_html() == review(tmp_path).to_html()
        and str(tmp_path) not in data["text/html"]
    )


def test_nothing_of_the_pictures_stands_in_the_script(tmp_path):
    """Their last digits differ between processors; scripts of committed notebooks are compared exactly."""
    pages = [
        review(tmp_path, pictures=grey(SHADES + x), file=tmp_path / str(x) / "r.json").to_html()
        for x in (0, 0.01)
    ]
    scripts = [re.search("<script>.*</script>", page, re.DOTALL)[0] for page in pages]
    assert pages[0] != pages[1] and scripts[0] == scripts[1]


@pytest.fixture
def page(browser, tmp_path):
    """The page of a review, two of whose five pictures are decided already."""
    made = review(tmp_path)
    made.decide("can", "accept", {"colour": 2})
    made.decide("tube", "reject")
    file = tmp_path / "index.html"
    head = "<!doctype html><html lang='en'><meta charset='utf-8'><title>Review</title>"
    words = head + "<body><input id='other'>{}</body></html>"
    file.write_text(words.format(made.to_html()), encoding="utf-8")
    page, errors = browser.new_page(viewport={"width": 1000, "height": 700}), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text))
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith(("data:", "file:", "blob:")) else errors.append(request.url)
        ),
    )
    page.goto(file.as_uri())
    yield page
    assert not errors
    page.close()


def press(page, keys):
    for key in keys.split():
        page.keyboard.press(key)


def shown(page):
    """Name, caption, and the numbers of the source and of the made picture, read from their pixels."""
    found = []
    for frame, shift in ((".vr-source .vr-window", 0.5), (".vr-made .vr-window", 0.0)):
        pixels = (
            np.asarray(Image.open(io.BytesIO(page.locator(frame).screenshot())).convert("L"), float) / 255
        )
        middle = pixels[20:-20, 20:-20]
        assert middle.std() < 0.01
        found.append(int((SHADES + shift - float(middle.mean())).abs().argmin()))
    return page.locator(".vr-name").inner_text(), page.locator(".vr-made p").inner_text(), *found


def tally(page):
    return page.get_by_role("status").inner_text()


def pressed(page):
    """The scores shown, as {criterion: score}."""
    rows = {
        row: page.get_by_role("group", name=f"{row}, 1 to 5").locator("[aria-pressed=true]")
        for row in CRITERIA
    }
    return {row: int(buttons.inner_text()) for row, buttons in rows.items() if buttons.count()}


def test_the_page_is_worked_by_keys_alone(page):
    assert tally(page) == "2 of 5 seen, 1 accepted" and shown(page) == (
        'jar "<b>"',
        "made",
        1,
        1,
    )  # the first undecided
    page.locator(".vaelab-review").focus()
    press(page, "3 c 4 n")
    page.keyboard.type("a bit 5 grey")  # none of these keys decides or scores
    assert tally(page) == "2 of 5 seen, 1 accepted" and pressed(page) == {"composition": 3, "colour": 4}
    press(page, "Escape a")
    assert tally(page) == "3 of 5 seen, 2 accepted"
    assert shown(page) == ("pouch", "made", 3, 3) and pressed(page) == {}  # past the tube, which is decided
    press(page, "r")
    assert tally(page) == "4 of 5 seen, 2 accepted" and shown(page)[0] == "bottle"
    press(page, "ArrowLeft ArrowLeft ArrowLeft")
    assert shown(page) == ('jar "<b>"', "made · accepted", 1, 1)
    assert page.get_by_label("Note").input_value() == "a bit 5 grey" and pressed(page) == {
        "composition": 3,
        "colour": 4,
    }
    press(page, "3 u")  # the same score again takes it away; undo goes to the last verdict, wherever that was
    assert tally(page) == "3 of 5 seen, 2 accepted" and shown(page)[:2] == ("pouch", "made")
    press(page, "ArrowLeft ArrowLeft")
    assert pressed(page) == {"colour": 4}
    press(page, "ArrowRight ArrowRight ArrowRight ArrowRight ArrowRight a")
    assert tally(page) == "4 of 5 seen, 3 accepted" and shown(page)[0] == "pouch"
    marks = [page.locator(".vr-line i").nth(i).get_attribute("class").strip() for i in range(N)]
    assert marks == ["accept", "accept", "reject", "vr-here", "accept"]
    assert "Here nothing is saved; in the notebook it is." in page.locator(".vr-help").inner_text()


def test_keys_elsewhere_on_the_page_do_nothing(page):
    page.locator("#other").focus()
    press(page, "a r 3 Control+a")
    assert tally(page) == "2 of 5 seen, 1 accepted" and pressed(page) == {}
    page.locator(".vr-made .vr-window").click()  # a click anywhere in it is enough
    press(page, "Control+a Alt+r a")
    assert tally(page) == "3 of 5 seen, 2 accepted"


def test_tab_goes_from_criterion_to_criterion_and_the_focus_is_seen(page):
    page.get_by_role("button", name="composition: 1 of 5").focus()
    press(page, "Tab 5 Tab 2 Shift+Tab 4")
    assert pressed(page) == {"colour": 4, "product presentation": 2}
    assert page.locator(".vr-current span").inner_text() == "colour"
    assert page.locator(":focus").evaluate("(e) => getComputedStyle(e).outlineStyle") == "solid"
    press(page, "Tab Tab")
    assert page.locator(":focus").get_attribute("aria-label") == "Note"


def test_fingers_can_do_it_on_a_telephone(browser, page):
    context = browser.new_context(has_touch=True, viewport={"width": 375, "height": 700})
    phone = context.new_page()
    phone.goto(page.url)
    for width in (320, 375):
        phone.set_viewport_size({"width": width, "height": 700})
        assert phone.evaluate("document.documentElement.scrollWidth") == width
        boxes = [button.bounding_box() for button in phone.locator(".vaelab-review button").all()]
        assert min(min(box["width"], box["height"]) for box in boxes) > 36
    phone.get_by_role("button", name="colour: 4 of 5").tap()
    assert pressed(phone) == {"colour": 4}
    taps = {"Reject": (3, 1), "Undo the last verdict": (2, 1), "Forward": (2, 1), "Accept": (2, 2)}
    for name, (seen, accepted) in taps.items():
        phone.get_by_role("button", name=name, exact=True).tap()
        assert tally(phone) == f"{seen} of 5 seen, {accepted} accepted"
    context.close()


def test_what_was_decided_in_the_page_can_be_taken_home(page):
    page.locator(".vaelab-review").focus()
    press(page, "r")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    taken = json.loads(download.value.path().read_text(encoding="utf-8"))
    assert taken["criteria"] == CRITERIA and taken["decisions"]['jar "<b>"']["verdict"] == "reject"
    assert taken["decisions"]["can"] == {"verdict": "accept", "scores": {"colour": 2}, "note": ""}


def test_without_scripts_a_still_remains(browser, page):
    context = browser.new_context(java_script_enabled=False)
    still = context.new_page()
    still.goto(page.url)
    assert still.locator(".vr-name").inner_text() == "can" and still.locator("button, textarea").count() == 0
    assert "A still picture, the first of 5." in still.locator(".vr-help").inner_text()
    context.close()


def test_the_widget_follows_python_and_tells_it(browser, tmp_path):
    """The anywidget's own render function, with a stand-in for the notebook's model."""
    made, page = review(tmp_path), browser.new_page(viewport={"width": 1000, "height": 700})
    page.set_content("<div id='cell'></div>")
    page.evaluate(
        """async ([code, state]) => {
          const module = await import(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
          const listeners = {};
          window.state = state;
          window.stray = [];
          document.addEventListener("keydown", (event) => window.stray.push(event.key));
          window.model = {
            get: (key) => state[key],
            set: (changes) => Object.entries(changes).forEach(([key, value]) => {
              state[key] = value;
              listeners[`change:${key}`]?.();
            }),
            save_changes: () => {},
            on: (name, run) => (listeners[name] = run),
          };
          module.default.render({ model: window.model, el: document.getElementById("cell") });
        }""",
        [made._esm, {key: getattr(made, key) for key in ("body", "spec", "decisions", "trouble")}],
    )
    assert "Saved at once in review.json." in page.locator(".vr-help").inner_text()
    page.locator(".vaelab-review").focus()
    press(page, "5 a d d Control+s")
    assert page.evaluate("window.stray") == ["Control", "s"]  # two d would delete a notebook's cell
    made.decisions = page.evaluate("window.state.decisions")
    assert stored(tmp_path)["decisions"]["can"] == {
        "verdict": "accept",
        "scores": {"composition": 5},
        "note": "",
    }
    made.decide(1, "reject", note="no")
    page.evaluate(
        "(changes) => window.model.set(changes)",
        {"decisions": made.decisions, "trouble": "The disk is full."},
    )
    assert tally(page) == "2 of 5 seen, 1 accepted" and page.get_by_label("Note").input_value() == "no"
    assert page.get_by_role("alert").inner_text() == "The disk is full."
    page.close()
