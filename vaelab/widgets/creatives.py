"""My creatives: the commands `train`, `blend`, `sample` and `augment` with buttons, and a review; for a notebook."""

import base64
import csv
import html
import re
import threading
from pathlib import Path

import torch

from vaelab import augment, creatives
from vaelab.data import folder as folders
from vaelab.report import encode, replace_file
from vaelab.widgets.review import Review

UPLOADS = Path("my-pictures")
HEIGHT = 820  # pixels of the report's window
REVIEWED = 40  # made ads in one sitting


def attempt(work):
    """What `work()` returns, or the exception that it raised.

    In a notebook an Output widget swallows exceptions and shows their traceback; so none may reach it.
    """
    try:
        return work()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001
        return error


def standing_alone(report):
    """A report as one HTML text, with the style and the picture that lie beside it."""
    text, beside = report.read_text(encoding="utf-8"), report.parent
    for link in re.findall(r'<link rel="stylesheet" href="[\w.-]+">', text):
        style = (beside / link.split('"')[3]).read_text(encoding="utf-8")
        text = text.replace(link, f"<style>{style}</style>")
    for name in re.findall(r'src="([\w-]+\.png)"', text):
        data = base64.b64encode((beside / name).read_bytes()).decode()
        text = text.replace(f'src="{name}"', f'src="data:image/png;base64,{data}"')
    return text


def review(out, folder):
    """A `Review` of made ads in `out`, spread evenly over all of them, beside what each was made from."""
    table = Path(out) / "provenance.csv"
    if not table.is_file():
        raise FileNotFoundError(f"There are no made ads in {out}: press Augment first.")
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    rows = [rows[i * len(rows) // REVIEWED] for i in range(REVIEWED)] if len(rows) > REVIEWED else rows
    files = [Path(out) / "pictures" / row["file"] for row in rows]
    side = folders.read_picture(files[0]).width
    made = torch.stack([creatives.read_square(file, side)[0] for file in files])
    sources = torch.stack([creatives.read_square(Path(folder) / row["source"], side)[0] for row in rows])
    return Review(made, Path(out) / "review.json", sources, [row["file"] for row in rows])


class MyCreatives:
    """The app: show it as the last expression of a cell. Files are read and written beside the notebook.

    A callback never raises: whatever goes wrong stands in `said`, in one sentence.
    """

    def __init__(self):
        import ipywidgets as w

        wide, label = w.Layout(width="32rem"), {"description_width": "7rem"}
        self.folder = w.Text(description="Folder", placeholder="/path/of/your/pictures", layout=wide, style=label,
                             continuous_update=False)
        self.upload = w.FileUpload(accept="image/*", multiple=True, description="or upload pictures", layout=wide)
        self.model = w.Text("my-model", description="Model", layout=wide, style=label, continuous_update=False)
        self.minutes = w.IntSlider(10, 1, 120, description="Minutes", layout=wide, style=label)
        self.size = w.Dropdown(options=[64, 96, 128], description="Pixels a side", layout=wide, style=label)
        self.a, self.b = (w.Dropdown(description=name, layout=wide, style=label) for name in ("From", "To"))
        self.previews = {self.a: w.Image(width=160, format="png"), self.b: w.Image(width=160, format="png")}
        self.steps = w.IntSlider(9, 3, 33, description="Steps", layout=wide, style=label)
        self.n = w.IntSlider(64, 1, 400, description="Pictures", layout=wide, style=label)
        self.origin = w.Dropdown(options=[("near my pictures", "codes"), ("anywhere", "prior")], description="Draw",
                                 layout=wide, style=label)  # fmt: skip
        self.seed = w.IntText(0, description="Seed", layout=wide, style=label)
        self.labels = w.Text(description="Labels", placeholder="labels.csv, with the columns file,label", layout=wide,
                             style=label)  # fmt: skip
        self.label = w.Text("high", description="Make more of", layout=wide, style=label)
        self.count = w.IntSlider(600, 20, 2000, 20, description="Made ads", layout=wide, style=label)
        self.made = w.Text("my-made-ads", description="Into", layout=wide, style=label)
        self.said, self.shown, self.progress, self.review_box = w.HTML(), w.HTML(), w.Output(), w.VBox()
        works = {"Train": self.train, "Blend": self.blend, "Sample": self.sample, "Augment": self.augment, "Review": self.review}
        self.buttons = {name: w.Button(description=name, button_style="primary") for name in works}
        for name in ("Blend", "Sample", "Review"):
            self.buttons[name].on_click(lambda _, work=works[name]: self.do(work))
        # What takes long has a thread of its own: a notebook hands out one press at a time, and Stop must get through.
        self.worker, self.stopping = None, threading.Event()
        for name in ("Train", "Augment"):
            self.buttons[name].on_click(lambda _, work=works[name]: self.start(work))
        self.stop = w.Button(description="Stop", disabled=True, layout=w.Layout(display="none"))
        self.stop.on_click(lambda _: self.stopping.set())
        self.bar = w.FloatProgress(max=1.0, layout=w.Layout(width="32rem", display="none"))
        running = w.HBox([self.stop, self.bar])
        self.folder.observe(lambda _: self.do(self.list_pictures), "value")
        self.upload.observe(lambda _: self.do(self.take_uploads), "value")
        for choice in (self.a, self.b):
            choice.observe(lambda change: self.do(lambda: self.preview(change["owner"])), "value")
            self.previews[choice].layout.display = "none"
        steps = {
            "1 Pictures": [self.folder, self.upload],
            "2 Train": [self.model, self.minutes, self.size, self.buttons["Train"]],
            "3 Blend": [self.a, self.b, w.HBox(list(self.previews.values())), self.steps, self.buttons["Blend"]],
            "4 Sample": [self.n, self.origin, self.seed, self.buttons["Sample"]],
            "5 Make more": [self.labels, self.label, self.count, self.made, w.HBox([self.buttons["Augment"], self.buttons["Review"]])],
        }
        tabs = w.Tab([w.VBox(children) for children in steps.values()], titles=list(steps))
        self.app = w.VBox([tabs, running, self.said, self.progress, self.review_box, self.shown])

    def start(self, work):
        """Does what takes long, until it is done or Stop is pressed."""
        self.stopping.clear()
        self.stop.disabled = False
        self.bar.value, self.bar.description = 0.0, ""
        self.bar.layout.display = self.stop.layout.display = ""
        self.worker = threading.Thread(target=self.do, args=(work,), daemon=True)
        self.worker.start()

    def asked(self, share):
        """Shows the share that is done; whether Stop was pressed."""
        if share >= self.bar.value + 0.002:  # each change is a message to the page
            self.bar.value, self.bar.description = share, f"{share:.0%}"
        return self.stopping.is_set()

    def do(self, work):
        """Runs one piece of work; says its sentence, or in one sentence what is wrong; shows the report."""
        busy = [*self.buttons.values()] if work in (self.train, self.blend, self.sample, self.augment, self.review) else []
        for button in busy:
            button.disabled = True
        try:
            if busy:
                self.shown.value, self.review_box.children = "", ()
                self.progress.clear_output()
            with self.progress:
                outcome = attempt(work)
            if isinstance(outcome, creatives.Outcome):
                self.say(" ".join([outcome.sentence, *outcome.problems]))
                page = html.escape(standing_alone(outcome.report))
                frame = f'<iframe title="report" srcdoc="{page}" style="width: 100%; height: {HEIGHT}px; border: 0">'
                self.shown.value = frame + "</iframe>"
            elif isinstance(outcome, (KeyboardInterrupt, ValueError, OSError, ImportError)):
                self.say(str(outcome) or "Stopped.")
            elif isinstance(outcome, Exception):  # a mistake of ours: still one sentence, and no traceback
                self.say(f"Something went wrong that should not ({type(outcome).__name__}: {outcome}): please report it.")
        finally:
            for button in busy:
                button.disabled = False
            if work in (self.train, self.augment):
                self.stop.disabled = True
                self.bar.layout.display = self.stop.layout.display = "none"

    def say(self, sentence):
        self.said.value = f'<p role="status"><b>{html.escape(" ".join(str(sentence).split()))}</b></p>'

    def take_uploads(self):
        for file in self.upload.value:
            replace_file(UPLOADS / Path(file["name"].replace("\\", "/")).name, bytes(file["content"]))
        if self.folder.value == str(UPLOADS):
            return self.list_pictures()
        self.folder.value = str(UPLOADS)

    def list_pictures(self):
        """Fills the two choices with the pictures of the folder."""
        folder = Path(self.folder.value).expanduser()
        files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in folders.PICTURES and file.is_file())
        for place, choice in enumerate((self.a, self.b)):
            choice.options = [(str(file.relative_to(folder)), str(file)) for file in files]
            choice.index = min(place, len(files) - 1) if files else None
        self.say(f"{len(files)} pictures in {folder}. Next: train." if files else f"There are no pictures in {folder}.")

    def preview(self, choice):
        if choice.value:
            picture, _ = creatives.read_square(choice.value, 160)
            self.previews[choice].value = encode(creatives.to_image(picture), "png")
            self.previews[choice].layout.display = ""

    def pictures(self):
        """The folder with the pictures."""
        if not self.folder.value.strip():
            raise ValueError("There are no pictures yet: give a folder or upload some in step 1.")
        return Path(self.folder.value).expanduser()

    def train(self):
        wanted = self.pictures(), self.model.value, self.minutes.value, self.size.value
        return creatives.train(*wanted, say=self.say, stop=self.asked)

    def blend(self):
        if not (self.a.value and self.b.value):
            raise ValueError("There are no pictures to choose from: give a folder or upload some in step 1.")
        strip = f"{self.model.value}-strip.png"
        return creatives.blend(self.a.value, self.b.value, self.model.value, strip, self.steps.value)

    def sample(self):
        sheet = f"{self.model.value}-sheet.png"
        return creatives.sample(self.model.value, sheet, self.n.value, self.origin.value, self.seed.value)

    def augment(self):
        folder, labels = self.pictures(), self.labels.value.strip()
        if not labels:
            raise ValueError("There are no labels yet: give a CSV file with the columns file,label.")
        wanted = folder, Path(labels).expanduser(), self.label.value.strip(), self.made.value
        return augment.augment(*wanted, self.count.value, say=self.say, stop=self.asked)

    def review(self):
        """Shows some of the made ads one by one; each decision is in a file at once."""
        tool = review(self.made.value, self.pictures())
        self.review_box.children = (tool,)
        self.say(f"{len(tool.names)} made ads, spread over all; what you decide is kept in {tool.file}.")

    def __repr__(self):
        return "MyCreatives()"

    def _repr_mimebundle_(self, **kwargs):
        return self.app._repr_mimebundle_(**kwargs) | {"text/plain": repr(self)}
