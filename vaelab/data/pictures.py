"""Read one picture as people have it (CMYK, 16-bit, palette, transparent, rotated, animated) as plain RGB."""

import io
import struct
import warnings
from os import PathLike

import numpy as np
from PIL import Image, ImageCms, ImageOps

# Only raster formats with a signature of their own; EPS and the like would start another program.
FORMATS = ("PNG", "JPEG", "MPO", "GIF", "WEBP", "TIFF", "BMP", "PSD", "AVIF", "JPEG2000")
MOVING = {"PNG", "GIF", "WEBP", "TIFF", "AVIF"}  # formats whose further frames are pictures of their own
MAX_PIXELS = 100_000_000  # 10,000 x 10,000: 300 MB once decoded
MIN_SIDE = 8  # pixels; anything smaller is a tracking pixel or a mistake

TRANSPARENT = "Transparent parts were laid on white"
ANIMATED = "Of several frames or pages the first was taken"
PLAIN_CMYK = "CMYK without a colour profile was converted by the plain formula, so tones may be off"


class PictureError(OSError):
    """A picture that cannot be used. `reason` completes a sentence that starts with the file's name."""

    def __init__(self, file: str | PathLike, reason: str):
        super().__init__(f"{file} {reason}")
        self.reason = reason


def read_picture(
    file: str | PathLike, draft: int | None = None, notes: set[str] | None = None
) -> Image.Image:
    """The picture in `file` as an upright 8-bit RGB image in sRGB.

    EXIF rotation and colour profiles are honoured, transparency is laid on white, the first frame is taken.
    draft: a JPEG may be decoded smaller (and faster), its shorter side still at least `draft` pixels.
    notes: a set that receives what had to be changed (`TRANSPARENT`, `ANIMATED`, `PLAIN_CMYK`).
    Raises: PictureError, one sentence that starts with `file`.
    """
    notes = set() if notes is None else notes
    try:
        with open(file, "rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own remarks do not name the file; ours do
            image = _open(stream, file)
            if draft:
                image.draft(None, (draft, draft))
            _decode(image, file, notes)
            return _to_rgb(image, file, notes)
    except PictureError:
        raise
    except FileNotFoundError as error:
        raise PictureError(file, "does not exist: check the name, or the link it is.") from error
    except PermissionError as error:
        raise PictureError(file, "may not be read: change its permissions.") from error
    except OSError as error:
        raise PictureError(file, f"cannot be read ({error.strerror or error}): copy it here again.") from error


def _open(stream: io.BufferedReader, file) -> Image.Image:
    """Read the header only; refuse what is empty, foreign, too large or too small before decoding it."""
    if not stream.peek(1):
        raise PictureError(file, "is empty (0 bytes): export it again.")
    Image.init()
    try:
        image = Image.open(stream, formats=[name for name in FORMATS if name in Image.OPEN])
    except Image.DecompressionBombError as error:
        raise PictureError(file, _too_large("")) from error
    except Exception as error:  # parsers meet damaged headers with errors of every kind
        raise PictureError(
            file, "is no picture that can be read here, or is damaged: save it as PNG or JPEG in an editor."
        ) from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise PictureError(file, _too_large(f" ({width} x {height})"))
    if min(width, height) < MIN_SIDE:
        raise PictureError(file, f"is too small ({width} x {height}): {MIN_SIDE} pixels a side are needed.")
    return image


def _too_large(size: str) -> str:
    return f"is too large{size}: scale it below {MAX_PIXELS // 10**6} million pixels."


def _decode(image: Image.Image, file, notes: set[str]) -> None:
    try:
        if image.format in MOVING and getattr(image, "n_frames", 1) > 1:
            notes.add(ANIMATED)
        image.load()
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error and more
        raise PictureError(file, "is cut off or damaged: copy or export it again.") from error


def _to_rgb(image: Image.Image, file, notes: set[str]) -> Image.Image:
    image = _upright(image)
    if image.mode == "F" or image.mode.startswith("I"):
        image = _deep_grey(image, file)
    image = _expand(image)
    profile = image.info.get("icc_profile")
    if image.mode == "CMYK" and not profile:
        notes.add(PLAIN_CMYK)
    if profile:
        image = _to_srgb(image, profile)
    return _on_white(image, notes) if image.mode == "RGBA" else image.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, struct.error):  # damaged EXIF: keep the picture
        return image


def _deep_grey(image: Image.Image, file) -> Image.Image:
    """16-bit grey (0 to 65,535) or floating-point grey (0 to 1) as 8-bit grey."""
    values = np.asarray(image, dtype=np.float64)
    ceiling = 1.0 if image.mode == "F" else 65535.0
    if not (values.min() >= 0 and values.max() <= ceiling):
        raise PictureError(file, f"holds numbers outside 0 to {ceiling:.0f}: save it with 8 or 16 bits.")
    grey = Image.fromarray(np.rint(values * (255 / ceiling)).astype(np.uint8))
    grey.info = {key: value for key, value in image.info.items() if key == "icc_profile"}
    return grey


def _expand(image: Image.Image) -> Image.Image:
    """Palettes and every kind of alpha become RGB or RGBA; grey, RGB and CMYK stay."""
    if image.mode in ("La", "RGBa"):  # alpha multiplied in already
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    if image.mode in ("LA", "PA") or "transparency" in image.info:
        return image.convert("RGBA")
    return image if image.mode in ("L", "RGB", "RGBA", "CMYK") else image.convert("RGB")


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """From the embedded profile to sRGB; a profile that does not fit the picture is passed over."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return image
        mode = "RGBA" if image.mode == "RGBA" else "RGB"
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode=mode)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image


def _on_white(image: Image.Image, notes: set[str]) -> Image.Image:
    if image.getchannel("A").getextrema()[0] < 255:
        notes.add(TRANSPARENT)
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def square(image: Image.Image, size: int, fit: str = "crop") -> Image.Image:
    """`image` at size x size. fit="crop" keeps the centre square; fit="pad" keeps all of it, on white."""
    width, height = image.size
    if fit == "crop":
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
        return image.resize((size, size), Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)
    scale = size / max(width, height)
    inner = (max(1, round(width * scale)), max(1, round(height * scale)))
    canvas = Image.new("RGB", (size, size), "white")
    small = image.resize(inner, Image.Resampling.LANCZOS, reducing_gap=3.0)
    canvas.paste(small, ((size - inner[0]) // 2, (size - inner[1]) // 2))
    return canvas
