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


def train(arguments: argparse.Namespace) -> int:
    """learn from a folder of your pictures: a model, and a report on how true it is to them"""
    from vaelab.creatives import train

    wanted = arguments.folder, arguments.out, arguments.minutes, arguments.size, arguments.steps, arguments.seed
    return finish(train(*wanted))


def blend(arguments: argparse.Namespace) -> int:
    """a strip of pictures from one to another, and where the two are in balance"""
    from vaelab.creatives import blend

    return finish(blend(arguments.a, arguments.b, arguments.model, arguments.out, arguments.steps))


def sample(arguments: argparse.Namespace) -> int:
    """a sheet of new pictures, and whether they are new"""
    from vaelab.creatives import sample

    return finish(sample(arguments.model, arguments.out, arguments.n, arguments.origin, arguments.seed))


def audit(arguments: argparse.Namespace) -> int:
    """what a VAE cannot keep of your pictures: text, faces, edges, texture, colours, picture by picture"""
    from vaelab.audit import audit

    return finish(audit(arguments.folder, arguments.out, arguments.vae, arguments.ocr))


def augment(arguments: argparse.Namespace) -> int:
    """whether ads made by a VAE help to tell which of your ads do well, and those ads"""
    from vaelab.augment import augment

    wanted = arguments.folder, arguments.labels, arguments.label, arguments.out
    settings = arguments.n, arguments.noise, arguments.size, arguments.seed, arguments.vae_steps
    return finish(augment(*wanted, *settings))


def finish(outcome) -> int:
    """Says what came out and where the report is; files that could not be used are named, and make a 1 of the 0."""
    for problem in outcome.problems:
        print("left out:", problem)
    print(outcome.sentence, f"Report: {outcome.report}", sep="\n")
    return int(bool(outcome.problems))


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser("vaelab", description="VAEs for people who make advertising.")
    top.add_argument("--version", action="version", version=f"vaelab {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    command = commands.add_parser("check", help=check.__doc__, description=check.__doc__)
    command.add_argument("--seconds", type=float, default=10.0, help="how long to train (default: 10)")
    command.set_defaults(run=check)

    command = commands.add_parser("train", help=train.__doc__, description=train.__doc__)
    command.add_argument("folder", help="the folder with your pictures, at least 8")
    command.add_argument("--out", required=True, help="a new folder for the model; the same again to go on")
    command.add_argument("--minutes", type=float, default=10.0, help="about how long to train (default: 10)")
    command.add_argument("--size", type=int, default=64, help="pixels a side: 64 (default), 128 …")
    command.add_argument("--steps", type=int, help="how long in steps, instead of --minutes")
    command.add_argument("--seed", type=int, default=0, help="another seed, another model (default: 0)")
    command.set_defaults(run=train)

    command = commands.add_parser("blend", help=blend.__doc__, description=blend.__doc__)
    command.add_argument("a", help="the picture to start from")
    command.add_argument("b", help="the picture to end at")
    command.add_argument("--model", required=True, help="the folder that `vaelab train` made")
    command.add_argument("--steps", type=int, default=9, help="pictures in the strip, 3 to 33 (default: 9)")
    command.add_argument("--out", default="strip.png", help="a .png or .jpg file (default: strip.png)")
    command.set_defaults(run=blend)

    command = commands.add_parser("sample", help=sample.__doc__, description=sample.__doc__)
    command.add_argument("--model", required=True, help="the folder that `vaelab train` made")
    command.add_argument("--n", type=int, default=64, help="how many, 1 to 400 (default: 64)")
    command.add_argument("--out", default="sheet.png", help="a .png or .jpg file (default: sheet.png)")
    command.add_argument("--seed", type=int, default=0, help="another seed, other pictures (default: 0)")
    origins = {"codes": "near your pictures", "prior": "anywhere"}
    told = ", ".join(f"{name}: {meaning}" for name, meaning in origins.items())
    command.add_argument("--from", dest="origin", choices=origins, default="codes", help=f"{told} (default: codes)")
    command.set_defaults(run=sample)

    command = commands.add_parser("audit", help=audit.__doc__, description=audit.__doc__)
    command.add_argument("folder", help="the folder with your pictures, of any size")
    command.add_argument("--out", required=True, help="a new folder for the report; the same again to go on")
    command.add_argument("--vae", help="your generator's: a folder, a .safetensors file, a name (default: our small one)")
    command.add_argument("--ocr", action=argparse.BooleanOptionalAction, default=True, help="read words, about 1 s a picture")
    command.set_defaults(run=audit)

    command = commands.add_parser("augment", help=augment.__doc__, description=augment.__doc__)
    command.add_argument("folder", help="the folder with your ads")
    command.add_argument("labels", help="a CSV file,label or file,label,group; a group stays on one side of a split")
    command.add_argument("--label", required=True, help="the label to make ads for, such as high")
    command.add_argument("--out", required=True, help="a new folder outside that of your ads; the same again to go on")
    command.add_argument("--n", type=int, default=600, help="how many ads to make (default: 600)")
    command.add_argument("--noise", type=float, default=0.5, help="how far from their sources, 0 to 10 (default: 0.5)")
    command.add_argument("--size", type=int, default=64, help="pixels a side of made ads: 64 (default), 128 …")
    told = "steps of each of three VAEs (default: 700): more make sharper ads; 100 take about 20 s, at 128 pixels 80 s"
    command.add_argument("--vae-steps", type=int, default=700, help=told)
    command.add_argument("--seed", type=int, default=0, help="another seed, other splits and ads (default: 0)")
    command.set_defaults(run=augment)
    return top


def complain(sentence: object) -> int:
    print("vaelab:", " ".join(str(sentence).split()), file=sys.stderr)
    return 2


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand. Returns the exit code: 0 well, 1 found something, 2 bad input, 130 interrupted."""
    asked = parser().parse_args(arguments)
    try:
        return asked.run(asked)
    except KeyboardInterrupt as stop:
        if str(stop):
            complain(stop)
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
