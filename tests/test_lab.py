"""`./lab` on machines that lack something: one sentence each, and nothing installed twice."""

import ast
import os
import shutil
import stat
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[1]
UV_OFFLINE = """error: Request failed after 3 retries in 5.9s
  cause: Failed to fetch: https://pypi.example/simple/torch/
  cause: error sending request for url (https://pypi.example/simple/torch/)
  cause: dns error"""
PIP_OFFLINE = """WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(<pip._vendor.urllib3>:
Failed to establish a new connection: [Errno -3] Temporary failure in name resolution')': /simple/uv/
ERROR: Could not find a version that satisfies the requirement uv (from versions: none)"""
FULL_DISK = "error: failed to write to file: No space left on device (os error 28)"
CONFLICT = "  x No solution found when resolving dependencies: because there is no version of numpy==99"


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """The script as a module that lives in a project folder of its own."""
    loader = SourceFileLoader("lab", str(ROOT / "lab"))
    module = module_from_spec(spec_from_loader("lab", loader))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader.exec_module(module)
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    module.ROOT, module.VENV = str(tmp_path), str(tmp_path / ".venv")
    module.PYTHON = str(tmp_path / ".venv" / "bin" / "python")
    module.STAMP, module.SITE = str(tmp_path / ".venv" / "stamp"), str(tmp_path / "_build" / "index.html")
    return module


@pytest.fixture
def sentence():
    """Run something that has to stop, and return what it says: one sentence."""

    def run(function, *arguments):
        with pytest.raises(SystemExit) as stopped:
            function(*arguments)
        text = stopped.value.code
        assert text.startswith("lab: ") and "\n" not in text
        return text

    return run


def fake_venv(lab):
    """A .venv that is this Python's, so that nothing has to be made."""
    Path(lab.PYTHON).parent.mkdir(parents=True)
    Path(lab.PYTHON).symlink_to(sys.executable)


def script(path, text):
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def installers(lab, monkeypatch):
    """Every call of an installer; `answers` says how they end, in turn (well, when it is empty)."""
    fake_venv(lab)
    seen = SimpleNamespace(commands=[], environments=[], answers=[])

    def call(command, env=None):
        seen.commands.append(command)
        seen.environments.append(env)
        return seen.answers.pop(0) if seen.answers else (0, "")

    monkeypatch.setattr(lab, "call", call)
    monkeypatch.setattr(lab, "uv_environment", dict)
    return seen


def test_parses_on_an_old_python_that_it_then_declines():
    ast.parse((ROOT / "lab").read_text(), feature_version=(3, 6))
    assert os.access(ROOT / "lab", os.X_OK)


def test_needs_the_standard_library_only():
    tree = ast.parse((ROOT / "lab").read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert names <= sys.stdlib_module_names
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]


# No fitting Python, no venv module


def test_no_fitting_python(lab, sentence, monkeypatch):
    monkeypatch.setattr(lab, "version", lambda python: "3.9" if python == ["python3"] else None)
    assert "needs Python 3.11, 3.12 or 3.13" in sentence(lab.find_python)


@pytest.mark.skipif(os.name == "nt", reason="plants shell scripts")
def test_takes_the_first_fitting_python_of_the_path(lab, tmp_path, monkeypatch):
    script(tmp_path / "python3.11", "#!/bin/sh\nexit 127\n")  # as a version manager's empty shell does
    script(tmp_path / "python3.12", "#!/bin/sh\necho 3.12\n")
    script(tmp_path / "old", "#!/bin/sh\necho 3.8\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(lab.sys, "executable", str(tmp_path / "old"))
    assert lab.find_python() == ["python3.12"]


def test_prefers_the_running_python(lab):
    assert lab.find_python() == [sys.executable]


@pytest.mark.skipif(os.name == "nt", reason="plants shell scripts")
def test_python_without_venv(lab, tmp_path, sentence, monkeypatch):
    script(tmp_path / "python3.12", '#!/bin/sh\ncase "$2" in *ensurepip*) exit 1;; *) echo 3.12;; esac\n')
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(lab.sys, "executable", "")
    text = sentence(lab.find_python)
    assert "Python 3.12 has no venv module" in text and "apt install python3.12-venv" in text


def test_failed_venv_leaves_nothing_behind(lab, sentence, monkeypatch):
    def half_made(command, env=None):
        Path(lab.PYTHON).parent.mkdir(parents=True)
        return 1, FULL_DISK

    monkeypatch.setattr(lab, "call", half_made)
    assert "disk is full" in sentence(lab.make_venv)
    assert not Path(lab.VENV).exists()


def test_interrupted_venv_leaves_nothing_behind(lab, monkeypatch):
    def interrupted(command, env=None):
        Path(lab.VENV).mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(lab, "call", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lab.make_venv()
    assert not Path(lab.VENV).exists()


def test_venv_of_an_unsupported_python_is_not_deleted(lab, sentence, monkeypatch):
    fake_venv(lab)
    monkeypatch.setattr(lab, "version", lambda python: "3.9")
    assert "holds Python 3.9" in sentence(lab.make_venv)
    assert Path(lab.PYTHON).exists()


# No disk, no network, and what nobody foresaw


def test_disk_too_small(lab, sentence, installers, monkeypatch):
    monkeypatch.setattr(lab.shutil, "disk_usage", lambda path: SimpleNamespace(free=100 * 10**6))
    assert "needs 300 MB of disk for .venv and 100 MB are free" in sentence(lab.setup, "book")
    assert not installers.commands


@pytest.mark.parametrize(
    ("output", "words"),
    [(UV_OFFLINE, "cannot be reached"), (PIP_OFFLINE, "cannot be reached"), (FULL_DISK, "disk is full")],
)
def test_known_troubles_become_one_sentence(lab, sentence, installers, output, words):
    installers.answers = [(0, ""), (1, output)]
    assert words in sentence(lab.install, ["book"])
    installers.answers = [(1, output)]
    assert words in sentence(lab.install, ["book"])


def test_unknown_trouble_is_shown_whole(lab, sentence, installers, capsys):
    installers.answers = [(0, ""), (1, CONFLICT)]
    assert "installation failed" in sentence(lab.install, ["book"])
    assert CONFLICT in capsys.readouterr().out


def test_pip_where_uv_cannot_be_had(lab, installers):
    installers.answers = [(1, "ERROR: No matching distribution found for uv")]
    lab.install(["book"])
    assert installers.commands[1][1:4] == ["-m", "pip", "install"]
    assert "jupyter-book>=1.0.4.post1,<2" in installers.commands[1]


def test_only_progress_is_shown(lab, capsys):
    code, said = lab.call(
        [sys.executable, "-c", "print('Resolved 3 packages\\n + torch==2.13.0'); raise SystemExit(3)"]
    )
    assert code == 3 and "torch" in said
    assert capsys.readouterr().out == "  Resolved 3 packages\n"


# What is installed, and from where


def test_the_book_needs_no_torch(lab, installers):
    lab.install(["book"])
    asked = " ".join(installers.commands[1])
    assert "jupyter-book" in asked and "sphinx-exercise" in asked
    assert "-e" not in installers.commands[1] and " torch" not in asked


def torch_flags(installers):
    return [[word for word in command if "backend" in word] for command in installers.commands[1:]]


def test_cpu_torch_on_linux_without_gpu(lab, installers, monkeypatch):
    monkeypatch.setattr(lab.sys, "platform", "linux")
    monkeypatch.setattr(lab.shutil, "which", lambda name: None)
    lab.install(["lab"])
    assert torch_flags(installers) == [["--torch-backend=cpu"]]


def test_goes_on_when_the_cpu_index_is_out_of_reach(lab, installers, monkeypatch, capsys):
    monkeypatch.setattr(lab.sys, "platform", "linux")
    monkeypatch.setattr(lab.shutil, "which", lambda name: None)
    installers.answers = [(0, ""), (1, UV_OFFLINE)]
    lab.install(["lab"])
    assert torch_flags(installers) == [["--torch-backend=cpu"], []]
    assert "3 GB more" in capsys.readouterr().out


@pytest.mark.parametrize(("platform", "gpu", "env"), [
    ("linux", "/usr/bin/nvidia-smi", {}), ("darwin", None, {}), ("linux", None, {"UV_FIND_LINKS": "/srv/wheels"}),
])  # fmt: skip
def test_plain_torch_elsewhere(lab, installers, monkeypatch, platform, gpu, env):
    monkeypatch.setattr(lab.sys, "platform", platform)
    monkeypatch.setattr(lab.shutil, "which", lambda name: gpu)
    monkeypatch.setattr(lab, "uv_environment", lambda: env)
    lab.install(["lab"])
    assert torch_flags(installers) == [[]]
    assert installers.environments[1] == env


def test_pips_sources_are_handed_to_uv(lab, monkeypatch, tmp_path):
    fake_venv(lab)
    for name in [n for n in os.environ if n.startswith(("PIP_", "UV_", "SSL_"))]:
        monkeypatch.delenv(name)
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://one.example/simple\nextra-index-url =\n  https://two.example/simple\n"
        "  https://three.example/simple\nfind-links = /srv/a\ncert = /srv/ca.pem\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    monkeypatch.setenv("PIP_FIND_LINKS", "/srv/b /srv/c")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://chosen.example/simple")
    lab.PYTHON = sys.executable
    env = lab.uv_environment()
    assert env["UV_FIND_LINKS"] == "/srv/b,/srv/c"  # the variable comes before the file, as in pip
    assert env["UV_INDEX"] == "https://two.example/simple https://three.example/simple"
    assert env["SSL_CERT_FILE"] == "/srv/ca.pem"
    assert env["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert env["UV_DEFAULT_INDEX"] == "https://chosen.example/simple"  # what the user told uv stays


# The second time


def test_second_run_calls_no_installer(lab, installers, capsys):
    lab.setup("book")
    first = len(installers.commands)
    assert first and "MB to download" in capsys.readouterr().out
    lab.setup("book")
    assert len(installers.commands) == first and capsys.readouterr().out == ""


def test_larger_set_up_covers_the_smaller_one(lab, installers):
    lab.setup("test")
    first = len(installers.commands)
    for command in ("book", "open", "notebooks"):
        lab.setup(command)
    assert len(installers.commands) == first


def test_changed_requirements_are_installed(lab, installers):
    lab.setup("book")
    first = len(installers.commands)
    with open(Path(lab.ROOT) / "constraints.txt", "a") as file:
        file.write("# changed\n")
    lab.setup("book")
    assert len(installers.commands) == 2 * first


def test_failed_set_up_leaves_no_stamp(lab, installers, sentence):
    installers.answers = [(0, ""), (1, UV_OFFLINE)]
    sentence(lab.setup, "book")
    assert not Path(lab.STAMP).exists()


def test_announced_sizes_grow_with_what_is_set_up(lab):
    book, test = lab.NEEDS["book"], lab.NEEDS["test"]
    assert book[1] < lab.NEEDS["open"][1] < test[1] and book[2] < lab.NEEDS["open"][2] < test[2]


# The commands


def test_book_fails_without_its_index_page(lab, sentence, monkeypatch):
    monkeypatch.setattr(lab, "run", lambda *arguments: 0)
    assert "left no" in sentence(lab.book)
    Path(lab.SITE).parent.mkdir()
    Path(lab.SITE).touch()
    assert lab.book() == 0


def test_book_fails_with_the_build(lab, monkeypatch):
    monkeypatch.setattr(lab, "run", lambda *arguments: 1)
    assert lab.book() == 1


def test_every_check_runs_and_one_failure_is_enough(lab, monkeypatch, capsys):
    ran = []
    monkeypatch.setattr(lab, "run", lambda *arguments: ran.append(arguments[:2]) or int("ruff" in arguments))
    monkeypatch.setattr(lab, "book", lambda: 0)
    assert lab.test(False) == 1
    assert [command[1] for command in ran] == ["ruff", "pytest", "pytest"]
    assert capsys.readouterr().out.endswith("lab test: failed: ruff\n")
    ran.clear()
    monkeypatch.setattr(lab, "run", lambda *arguments: ran.append(arguments[:2]) or 0)
    assert lab.test(True) == 0
    assert ran[-1] == ("-m", "tests.mutations") and len(ran) == 5


@pytest.mark.parametrize(("given", "seen"), [(None, "1"), ("2", "2")])
def test_one_thread_unless_told_otherwise(lab, monkeypatch, given, seen):
    monkeypatch.setenv("OMP_NUM_THREADS", given or "")
    if given is None:
        monkeypatch.delenv("OMP_NUM_THREADS")
    lab.PYTHON = sys.executable
    monkeypatch.setattr(lab, "setup", lambda command: None)
    code = f"import os; raise SystemExit(os.environ['OMP_NUM_THREADS'] != '{seen}')"
    monkeypatch.setattr(lab, "test", lambda everything: lab.run("-c", code))
    assert lab.main(["test"]) == 0


@pytest.mark.parametrize("words", [[], ["bok"], ["book", "--all"], ["test", "quickly"], ["open", "notebook"]])
def test_misspelt_command(words):
    done = subprocess.run([sys.executable, ROOT / "lab", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr and "lab: error:" in done.stderr


def test_help_names_every_command():
    done = subprocess.run(
        [sys.executable, ROOT / "lab", "--help"], capture_output=True, text=True, check=True
    )
    for command in ("./lab book", "./lab test [--all]", "./lab open", "./lab notebooks", "python lab book"):
        assert command in done.stdout
