"""MyST Markdown -> the plain Markdown that any notebook program shows.

Directives become quotes, headings and `<details>`, solutions vanish, roles become their text and
stored numbers are filled in.
"""

import re

FENCE = re.compile(r"^(?P<indent> *)(?P<fence>:{3,}|`{3,}|~{3,})\{(?P<name>[\w:-]+)\} *(?P<title>.*)$")
CODE_FENCE = re.compile(r"^ *(?P<fence>`{3,}|~{3,})")
OPTION = re.compile(r"^:([\w-]+):\s*(.*)$")
TARGET = re.compile(r"^\(([\w.-]+)\)=\s*$")
ROLE = re.compile(r"\{([\w:.-]+)\}`([^`]+)`")
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|mailto:)([^)\s]*)\)")
PICTURE = re.compile(r"!\[([^\]]*)\]\((?!https?:|attachment:)([^)\s]+)\)")
DROPPED = {"solution", "toctree", "tableofcontents", "raw", "glue", "index"}
BOXES = {"admonition", "note", "tip", "hint", "important", "warning", "caution", "seealso", "attention"}
CODE = {"code", "code-block"}


class Plain:
    """Converts the Markdown cells of one notebook.

    Args:
        numbers: stored number name -> text.
        titles: reference label -> the words that stand for it.
        chapters: names of the chapters that have a notebook of their own.
    """

    def __init__(self, numbers, titles, chapters=()):
        self.numbers, self.titles, self.chapters = numbers, titles, set(chapters)

    def convert(self, text):
        """Return the plain Markdown of one cell, "" when nothing is left."""
        return re.sub(r"\n{3,}", "\n\n", "\n".join(self._blocks(text.split("\n")))).strip()

    def _blocks(self, lines):
        i = 0
        while i < len(lines):
            end = i
            if match := FENCE.match(lines[i]):
                end = closing(lines, i, match["fence"])
                yield from self._directive(match, lines[i + 1 : end])
            elif match := CODE_FENCE.match(lines[i]):
                end = closing(lines, i, match["fence"])
                yield from lines[i : end + 1]
            elif not TARGET.match(lines[i]) and not lines[i].startswith("% "):
                yield self.inline(lines[i])
            i = end + 1

    def _directive(self, match, body):
        name, title = match["name"], self.inline(match["title"])
        options, body = split_options(body)
        if name in DROPPED:
            return []
        if name in CODE:
            return [f"```{match['title']}", *body, "```"]
        if name == "math":
            return ["$$", *body, "$$"]
        inner = self.convert("\n".join(body))
        return ["", *self._shape(name, title, options, inner).split("\n"), ""]

    def _shape(self, name, title, options, inner):
        if name == "dropdown":
            return details(title, inner)
        if name == "exercise":
            return f"### Exercise {title}\n\n{inner}"
        if name in ("figure", "image"):
            return f"![{options.get('alt', '')}]({title})\n\n" + (f"*{inner}*" if inner else "")
        if name in BOXES:
            return box(title or name.capitalize(), inner)
        return inner

    def inline(self, text):
        """Roles and links to other pages of the book, in a line of text outside code."""
        text = ROLE.sub(lambda match: self._role(match[1], match[2]), text)
        return LINK.sub(lambda match: self._link(match[1], match[2]), text)

    def _role(self, role, text):
        label = re.fullmatch(r"(.*?)\s*<([^>]*)>", text, re.DOTALL)
        words, target = (label[1], label[2]) if label else ("", text)
        if role == "glue:text":
            return self._number(target)
        if role == "math":
            return f"${text}$"
        if role == "doc":
            return self._link(words or self.titles.get(target, target), f"{target}.md")
        if role in ("ref", "numref", "eq"):
            return words or self.titles.get(target, target.replace("-", " "))
        return words or target

    def _number(self, name):
        if name not in self.numbers:
            raise ValueError(
                f"The text quotes number {name!r}, and no cell stores it: add number({name!r}, …)."
            )
        return self.numbers[name]

    def _link(self, words, target):
        page = re.sub(r"\.(md|ipynb)(#.*)?$", "", target)
        return f"[{words}]({page}.ipynb)" if page in self.chapters else words


def closing(lines, start, fence):
    """The line that closes the fence opened on line `start`."""
    pattern = re.compile(rf"^ *{re.escape(fence[0])}{{{len(fence)},}} *$")
    for i in range(start + 1, len(lines)):
        if pattern.match(lines[i]):
            return i
    raise ValueError(f"Nothing closes {lines[start].strip()!r}: add a line {fence!r} in the same text cell.")


def split_options(body):
    """Split a directive's `:key: value` lines from its content."""
    options = {}
    while body and (match := OPTION.match(body[0].strip())):
        options[match[1]] = match[2]
        body = body[1:]
    return options, body


def details(summary, inner):
    """A folded box. Markdown is not read inside <summary>, so its code and stress become HTML."""
    summary = re.sub(r"`([^`]+)`", r"<code>\1</code>", summary)
    summary = re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", summary)
    summary = re.sub(r"(?<!\w)[*_]([^*_]+)[*_](?!\w)", r"<em>\1</em>", summary)
    return f"<details>\n<summary>{summary}</summary>\n\n{inner}\n\n</details>"


def box(title, inner):
    """A quote with a bold title; folds inside a quote do not unfold everywhere, so those stay unquoted."""
    text = f"**{title}**\n\n{inner}".strip()
    if "<details>" in text:
        return text
    return "\n".join(f"> {line}".rstrip() for line in text.split("\n"))


def labels(text):
    """Reference label -> words, for every target, exercise and figure of a text."""
    found = {}
    lines = text.split("\n")
    for i, line in enumerate(lines):
        following = next((later for later in lines[i + 1 :] if later.strip()), "")
        if (match := TARGET.match(line)) and following.startswith("#"):
            found[match[1]] = following.lstrip("# ").strip()
        elif match := FENCE.match(line):
            options, _ = split_options(lines[i + 1 :])
            if label := options.get("label") or options.get("name"):
                found[label] = f"Exercise {match['title']}" if match["name"] == "exercise" else "the figure"
    return found
