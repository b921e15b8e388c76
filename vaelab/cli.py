"""The `vaelab` command. One function a subcommand; what a subcommand needs is imported when it runs."""

import argparse
import sys

from vaelab import __version__

# Where the name one imports is not the name one installs.
PACKAGES = {"PIL": "pillow", "skimage": "scikit-image", "sklearn": "scikit-learn"}


def check(arguments: argparse.Namespace) -> int:
    """versions, disk, threads, a ten-second training, a browser: each OK, or what to do"""
    from vaelab.check import report

    return report(seconds=arguments.seconds)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser("vaelab", description="VAEs for people who make advertising.")
    top.add_argument("--version", action="version", version=f"vaelab {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    command = commands.add_parser("check", help=check.__doc__, description=check.__doc__)
    command.add_argument("--seconds", type=float, default=10.0, help="how long to train (default: 10)")
    command.set_defaults(run=check)
    return top


def complain(sentence: object) -> int:
    print("vaelab:", " ".join(str(sentence).split()), file=sys.stderr)
    return 2


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand. Returns the exit code: 0 well, 1 found something, 2 bad input, 130 interrupted."""
    asked = parser().parse_args(arguments)
    try:
        return asked.run(asked)
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError) as error:
        return complain(error)
    except ModuleNotFoundError as error:
        module = (error.name or "").split(".")[0]
        if module in ("", "vaelab"):
            raise
        package = PACKAGES.get(module, module)
        return complain(f"`{asked.command}` needs {package}; install it with: pip install 'vaelab[tools]'")
    except ImportError as error:
        return complain(error)


if __name__ == "__main__":
    sys.exit(main())
