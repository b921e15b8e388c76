"""What the site does beyond Jupyter Book: learner notebooks to download, and the library's reference.

The reference is read from the source with `ast`: nothing is imported, so the site builds without torch.
"""

import ast
import re
import textwrap
from pathlib import Path

import nbformat
from docutils import nodes
from notebooks import APP, BOOK, ROOT, write_learners
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective
from sphinx_exercise.nodes import exercise_node, exercise_subtitle

CODE_SPAN = re.compile(r"(`+[^`]+`+)")
SECTION = re.compile(r"(Args|Arguments|Returns|Raises|Yields|Attributes|Shapes?|Examples?):")
NAME = re.compile(r"[\w*`, ]+")
MARKDOWN = re.compile(r"([\\*_\[\]<>{}$#|~!^])")


class LibraryReference(SphinxDirective):
    """`{library-reference} vaelab.objectives`: the public functions and classes of one module."""

    required_arguments = 1

    def run(self):
        module = self.arguments[0]
        path = module_path(module)
        if path is None:
            return [nodes.paragraph(text="Not written yet.")]
        self.env.note_dependency(str(path))
        tree = ast.parse(path.read_text(encoding="utf-8"))
        lines = [*docstring(tree), "", f"```{{py:module}} {module}", "```", ""]
        for node in public(tree.body):
            lines += describe(node)
        container = nodes.container(classes=["library-reference"])
        self.state.nested_parse(lines, self.content_offset, container)
        return container.children


def module_path(module):
    base = ROOT.joinpath(*module.split("."))
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.exists()), None)


def public(body):
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [
        node
        for node in body
        if isinstance(node, kinds) and not node.name.startswith("_") and ast.get_docstring(node)
    ]


def describe(node, depth=0):
    """The MyST lines of a function or class; methods with a docstring follow their class."""
    fence = ":" * (8 - depth)
    if isinstance(node, ast.ClassDef):
        kind, head = "py:class", node.name + class_arguments(node)
        members = [line for member in public(node.body) for line in describe(member, depth + 1)]
    else:
        kind, head = (
            ("py:method" if depth else "py:function"),
            node.name + signature(node, skip_self=depth > 0),
        )
        members = []
    return [f"{fence}{{{kind}}} {head}", *docstring(node), "", *members, fence, ""]


def function_head(node, depth):
    if any(isinstance(d, ast.Name) and d.id == "property" for d in node.decorator_list):
        return "py:property", node.name
    return ("py:method" if depth else "py:function"), node.name + signature(node, skip_self=depth > 0)


def signature(node, skip_self):
    arguments = ast.parse(f"def f({ast.unparse(node.args)}): pass").body[0].args
    static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in node.decorator_list)
    if skip_self and not static and arguments.args:
        arguments.args.pop(0)
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"({ast.unparse(arguments)}){returns}"


def class_arguments(node):
    """The arguments of __init__, or the fields of a NamedTuple or dataclass."""
    for member in node.body:
        if isinstance(member, ast.FunctionDef) and member.name == "__init__":
            return signature(member, skip_self=True)
    fields = [m for m in node.body if isinstance(m, ast.AnnAssign)]
    return f"({', '.join(ast.unparse(field) for field in fields)})" if fields else ""


def docstring(node):
    """A docstring as Markdown: text escaped, code spans kept, arguments a list, indented blocks as they are."""
    lines = []
    for block in re.split(r"\n\s*\n", ast.get_docstring(node) or ""):
        head, _, rest = block.partition("\n")
        if SECTION.fullmatch(head):
            lines += [f"**{head.rstrip(':')}**", "", *arguments(rest), ""]
        elif block.startswith("    "):
            lines += ["```text", *block.split("\n"), "```", ""]
        else:
            lines += [escape(block), ""]
    return "\n".join(lines).split("\n")


def arguments(text):
    """`name: what it is`, one to a bullet; deeper lines go on with the bullet above."""
    bullets = []
    for line in textwrap.dedent(text).split("\n"):
        if line.startswith(" ") and bullets:
            bullets[-1] += " " + line.strip()
        else:
            bullets.append(line.strip())
    split = (bullet.partition(": ") for bullet in bullets)
    return [
        f"- `{n.strip('`')}`: {escape(t)}" if t and NAME.fullmatch(n) else f"- {escape(n + s + t)}"
        for n, s, t in split
    ]


def escape(text):
    parts = CODE_SPAN.split(" ".join(text.split()))
    return "".join(part if part.startswith("`") else MARKDOWN.sub(r"\\\1", part) for part in parts)


class ChapterCards(SphinxDirective):
    """`{chapter-cards}`: one card for every chapter there is: its title and its client's question."""

    def run(self):
        lines = ["::::{grid} 1 1 2 2", ":gutter: 3", ""]
        for path in sorted(BOOK.glob("[0-9]*.ipynb")):
            self.env.note_dependency(str(path))
            title, question = chapter_summary(nbformat.read(path, 4))
            number = int(path.stem.split("-")[0])
            lines += [
                f":::{{grid-item-card}} {number} · {title}",
                f":link: {path.stem}",
                ":link-type: doc",
                "",
            ]
            lines += [question, ":::", ""]
        container = nodes.container()
        self.state.nested_parse([*lines, "::::"], self.content_offset, container)
        return container.children


def chapter_summary(notebook):
    """A chapter's title and the paragraph of its box "The client's question"."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    question = re.search(r"^:class: client\n+(.*?)(?:\n\n|\n:::)", text, re.MULTILINE | re.DOTALL)
    return re.search(r"^# (.*)$", text, re.MULTILINE)[1], question[1] if question else ""


class ExerciseTitles(SphinxPostTransform):
    """ "Exercise 1.2 · Title" instead of sphinx-exercise's "Exercise (1.2 · Title)"."""

    default_priority = 19  # just before sphinx-exercise's own

    def run(self):
        for node in self.document.findall(exercise_node):
            words = node[0].children
            if isinstance(words[-1], exercise_subtitle):
                node[0] = nodes.title("", f"{words[0].astext()} ", *words[-1].children)


def offer_learner_notebook(app, pagename, templatename, context, doctree):
    """A line under a chapter's title: take it as a notebook, and open it online where that is set up."""
    name = Path(pagename).name
    if not re.match(rf"book/(\d|{APP}$)", pagename) or "body" not in context:
        return
    address = context["pathto"](f"learner/{name}.ipynb", resource=True)
    what = "to press the buttons" if name == APP else "to change the code and do the exercises"
    links = f'<a href="{address}" download>Take this page as a notebook</a> {what}.'
    if app.config.vaelab_launch_url:
        links += f' <a href="{app.config.vaelab_launch_url.format(name=name)}">Open it online</a>.'
    context["body"] = context["body"].replace("</h1>", f'</h1>\n<p class="take-notebook">{links}</p>', 1)


def without_thebe(app, pagename, templatename, context, doctree):
    """Leaves out Thebe, which would fetch its kernel from another host and whose script comes twice, an error."""
    scripts = context.get("script_files", [])
    context["script_files"] = [s for s in scripts if "thebe" not in f"{s}{getattr(s, 'attributes', '')}".lower()]


def write_learner_notebooks(app, exception):
    if exception is None and app.builder.format == "html":
        write_learners(Path(app.outdir) / "learner", overwrite=True)


def setup(app):
    app.add_config_value("vaelab_launch_url", "", "html")
    app.add_directive("library-reference", LibraryReference)
    app.add_directive("chapter-cards", ChapterCards)
    app.add_post_transform(ExerciseTitles)
    app.connect("html-page-context", offer_learner_notebook)
    app.connect("html-page-context", without_thebe, priority=900)  # after those who add it
    app.connect("build-finished", write_learner_notebooks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
