"""Packs: six product forms as shaded solids with a printed label.

Five are solids of revolution seen slightly from above: a profile gives the radius at each height, every pixel
is traced back to its height and angle on the surface, and colour = paint x light there. The carton is made of
flat faces.
"""

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from .ad_brands import BRANDS, PRODUCTS, luminance
from .ad_type import draw_mark, fitted_font

# form: profile (height from the top, radius), ring curvature (top, base), roundness of the cross-section
# (top, base; 1 is a circle, more is flatter), label (from, to), cap zone's end, body is "glass", "print" or "metal"
FORMS = {
    "bottle": dict(
        profile=[(0, .060), (.070, .060), (.072, .050), (.10, .050), (.20, .054), (.40, .158), (.46, .165),
                 (.95, .165), (.985, .155), (1, .135)],
        rings=(.10, .14), round=(1, 1), label=(.47, .86), cap=.072, body="glass"),
    "can": dict(
        profile=[(0, .172), (.02, .178), (.03, .172), (.085, .212), (.10, .214), (.91, .214), (.925, .212), (1, .170)],
        rings=(.20, .16), round=(1, 1), label=(.09, .92), cap=.028, body="metal"),
    "jar": dict(
        profile=[(0, .245), (.012, .252), (.17, .252), (.175, .235), (.20, .235), (.29, .285), (.93, .285), (.975, .27),
                 (1, .24)],
        rings=(.16, .12), round=(1, 1), label=(.40, .82), cap=.172, body="glass"),
    "tube": dict(
        profile=[(0, .220), (.07, .218), (.45, .200), (.80, .172), (.815, .172), (.82, .150), (.99, .142), (1, .138)],
        rings=(.0, .14), round=(4, 1), label=(.08, .79), cap=None, body="print"),
    "pouch": dict(
        profile=[(0, .300), (.075, .300), (.10, .292), (.30, .300), (.70, .325), (.95, .310), (1, .285)],
        rings=(.0, .10), round=(5, 2), label=(.10, .93), cap=None, body="print"),
}  # fmt: skip
STEPS = 512  # rows of the profile's look-up table


@lru_cache
def _profile(product):
    """(STEPS, 4): radius, slope, ring curvature and roundness by height; eased between the given points."""
    form = FORMS[product]
    v = np.linspace(0, 1, STEPS)
    heights, radii = np.array(form["profile"]).T
    k = np.clip(np.searchsorted(heights, v, side="right") - 1, 0, len(heights) - 2)
    t = (v - heights[k]) / (heights[k + 1] - heights[k])
    radius = radii[k] + (radii[k + 1] - radii[k]) * t * t * (3 - 2 * t)
    blend = v**1.5
    curve, roundness = (a + (b - a) * blend for a, b in (form["rings"], form["round"]))
    return np.stack([radius, np.gradient(radius, v).clip(-1.5, 1.5), curve, roundness], axis=1).astype(
        np.float32
    )


@lru_cache(256)
def _print(product, brand, width, height):
    """What is printed on the pack: (height, width, 2) shares of accent colour and of ink."""
    k = 3
    accent, ink = (Image.new("L", (width * k, height * k)) for _ in range(2))
    w, h = width * k, height * k
    shape, write = ImageDraw.Draw(accent), ImageDraw.Draw(ink)
    _ornament(shape, brand, w, h)
    _, typeface, mark, _ = BRANDS[brand]
    lines = PRODUCTS[product][0].split()
    room = min(w * 0.56, h * 0.95)
    draw_mark(write, mark, w / 2, h * 0.19, min(room * 0.30, h * 0.13), 255)
    name = fitted_font(typeface, brand, room * 0.62, h * 0.10)
    write.text((w / 2, h * 0.40), brand, 255, font=name, anchor="mm")
    for place, line in enumerate(lines):
        big = fitted_font(typeface, max(lines, key=len), room, h * (0.21 if len(lines) == 1 else 0.16))
        y = h * (0.60 + 0.17 * (place - (len(lines) - 1) / 2))
        write.text((w / 2, y), line, 255, font=big, anchor="mm")
    small = [np.asarray(layer.resize((width, height), Image.Resampling.BOX)) for layer in (accent, ink)]
    return np.stack(small, axis=-1).astype(np.float32) / 255


def _ornament(draw, brand, w, h):
    """Each brand's own shape at the foot of the label."""
    if brand == "Orrin":
        draw.ellipse([w / 2 - h * 0.55, h * 0.77, w / 2 + h * 0.55, h * 1.87], 255)
    elif brand == "Fennoa":
        for y in (0.03, 0.93):
            draw.rectangle([0, h * y, w, h * (y + 0.035)], 255)
        draw.rectangle([0, h * 0.985, w, h], 255)
    elif brand == "Tikkle":
        x = np.linspace(0, w, 80)
        y = h * (0.82 + 0.05 * np.sin(x / w * 4 * np.pi))
        draw.polygon([*zip(x, y, strict=True), (w, h), (0, h)], 255)
    else:
        draw.polygon([(0, h * 0.93), (w, h * 0.70), (w, h * 0.86), (0, h * 1.09)], 255)


def draw_pack(row, height, side):
    """One pack as a float32 picture (rows, columns, 4): red, green, blue, opacity; lit from `side` (-1 left, 1 right).

    `row` gives product, brand, material and pack_rgb; `height` is its height in pixels.
    """
    if row["product"] == "carton":
        return _carton(row, height, side)
    form, table = FORMS[row["product"]], _profile(row["product"])
    back, front = (table[end, 0] * table[end, 2] for end in (0, -1))  # the rings' depth beyond the outline
    total = 1 + back + front
    half = int(np.ceil(table[:, 0].max() / total * height)) + 1
    x = (np.arange(-half, half, dtype=np.float32)[None] + 0.5) * (total / height)
    y = (np.arange(height, dtype=np.float32)[:, None] + 0.5) * (total / height) - back
    sharp = height / total
    v = y - 0 * x
    for _ in range(2):  # trace the pixel back to its ring
        radius, _, curve, _ = _at(table, v)
        v = y - curve * np.sqrt((radius**2 - x**2).clip(0))
    radius, slope, _, roundness = _at(table, v)
    u = (x / radius).clip(-1, 1)
    alpha = _edge((radius - np.abs(x)) * sharp) * _edge(v * sharp) * _edge((1 - v) * sharp)
    normal = np.sign(u) * np.abs(u) ** roundness
    facing = np.sqrt((1 - normal**2).clip(0))
    colours = _colours(row)
    paint = np.broadcast_to(colours["body"], (*v.shape, 3)).astype(np.float32)
    if form["body"] == "glass":
        paint = paint * (0.62 + 0.55 * facing[..., None] ** 2)
    paint = _mix(paint, _printed(row, form, u, v, colours, sharp), form, v, sharp)
    paint = _fittings(row["product"], paint, colours, u, v, sharp)
    light = _light(normal, slope, facing, side)
    shine = _shine(row["material"] if form["body"] == "print" else form["body"], u, v, side)
    colour = paint * light[..., None] + shine[..., None]
    if form["rings"][0]:  # the top is seen from above
        top = (x / table[0, 0]) ** 2 + (y / back) ** 2
        lid = _edge((1 - np.sqrt(top)) * sharp * back)
        sheen = (0.90 + 0.22 * np.sin(3 * x / table[0, 0] + side))[..., None] * np.where(
            top > 0.72, 1.12, 0.93
        )[..., None]
        colour = colour * (1 - lid[..., None]) + (colours["cap"] * sheen) * lid[..., None]
        alpha = np.maximum(alpha, lid)
    return np.dstack([colour.clip(0, 1), alpha]).astype(np.float32)


def _at(table, v):
    """The profile's columns at heights v."""
    rows = table[(v * (STEPS - 1)).clip(0, STEPS - 1).astype(np.int32)]
    return rows[..., 0], rows[..., 1], rows[..., 2], rows[..., 3]


def _edge(distance):
    """Coverage of a pixel whose centre lies `distance` pixels inside an edge."""
    return (distance + 0.5).clip(0, 1)


def _colours(row):
    """The pack's paints: body, cap, label, accent and ink, (3,) each."""
    body = np.asarray(row["pack_rgb"], dtype=np.float32)
    dark = luminance(body) < 0.55
    white, night = np.float32([1, 0.985, 0.95]), np.float32([0.09, 0.09, 0.16])
    glass = FORMS.get(row["product"], {}).get("body") == "glass"
    deep, pale = body * 0.55 + night * 0.2, body * 0.35 + white * 0.65
    return dict(
        body=body,
        cap={
            "can": np.float32([0.80, 0.81, 0.84]),
            "jar": np.float32([0.93, 0.80, 0.52]),
            "bottle": pale,
        }.get(row["product"], white if dark else deep),
        label=white if glass else body,
        accent=body if glass else (pale if dark else deep),
        ink=deep if glass else (white if dark else night),
    )


def _printed(row, form, u, v, colours, sharp):
    """Paint of the label, wrapped round the solid."""
    top, end = form["label"]
    height = max(8, round((end - top) * sharp))
    radius = _profile(row["product"])[int((top + end) / 2 * STEPS), 0]
    flat = form["round"][0] > 1
    width = max(8, round((2 if flat else np.pi) * radius * sharp))
    masks = _print(row["product"], row["brand"], width, height)
    across = (u + 1) / 2 if flat else np.arcsin(u) / np.pi + 0.5
    i = ((v - top) / (end - top) * height).clip(0, height - 1).astype(np.int32)
    j = (across * width).clip(0, width - 1).astype(np.int32)
    accent, ink = masks[i, j, 0, None], masks[i, j, 1, None]
    paint = colours["label"] + (colours["accent"] - colours["label"]) * accent
    return paint + (colours["ink"] - paint) * ink


def _mix(paint, printed, form, v, sharp):
    """Put the label where it belongs."""
    top, end = form["label"]
    on = (_edge((v - top) * sharp) * _edge((end - v) * sharp))[..., None]
    return paint + (printed - paint) * on


def _fittings(product, paint, colours, u, v, sharp):
    """Caps, seals, rims and ridges."""
    if product in ("bottle", "jar"):
        cap = colours["cap"] * (1 - 0.10 * (np.sin(np.arcsin(u) * 26) > 0.2))[..., None]
        paint = paint + (cap - paint) * _edge((FORMS[product]["cap"] - v) * sharp)[..., None]
    elif product == "can":
        rim = _edge((0.088 - v) * sharp) + _edge((v - 0.922) * sharp)
        paint = paint + (colours["cap"] - paint) * rim.clip(0, 1)[..., None]
    elif product == "tube":
        cap = colours["cap"] * (1 - 0.12 * (np.sin(np.arcsin(u) * 30) > 0.3))[..., None]
        paint = paint + (cap - paint) * _edge((v - 0.818) * sharp)[..., None]
        paint = paint * (1 - 0.13 * (np.sin(u * 60) > 0) * (v < 0.065))[..., None]
    elif product == "pouch":
        seal = 0.16 * (v < 0.075) + 0.25 * np.exp(-(((v - 0.135) * sharp / 2) ** 2)) * (sharp > 60)
        hole = np.exp(-((u / 0.09) ** 6) - (((v - 0.038) / 0.014) ** 6))
        paint = paint * (1 - seal - 0.5 * hole)[..., None]
    return paint


def _light(normal, slope, facing, side):
    """Ambient and one large soft lamp, with a darker edge away from it and a shade towards the ground."""
    lamp = (0.58 * side * normal - 0.45 * slope * facing + 0.68 * facing).clip(0)
    edge = 0.18 * np.abs(normal) ** 6
    return 0.46 + 0.68 * lamp - edge


def _shine(material, u, v, side):
    """Highlights by material: strips of a soft box, a broad sheen, or the bands of metal."""
    a = u * side
    fade = (v * 8).clip(0, 1) * ((1 - v) * 8).clip(0, 1)
    rim = 0.22 * np.exp(-(((a + 0.96) / 0.05) ** 2))
    if material == "glass":
        return (
            fade * (0.60 * np.exp(-(((a - 0.62) / 0.07) ** 4)) + 0.16 * np.exp(-(((a + 0.66) / 0.05) ** 2)))
            + rim
        )
    if material == "metal":
        return (
            0.34 * np.exp(-(((a - 0.52) / 0.11) ** 2))
            - 0.14 * np.exp(-(((a - 0.14) / 0.16) ** 2))
            + 1.3 * rim
        )
    if material == "gloss":
        return fade * 0.42 * np.exp(-(((a - 0.58) / 0.09) ** 4)) + rim
    return 0.07 * np.exp(-(((a - 0.4) / 0.3) ** 2)) + 0.5 * rim


# The carton: corners in units of its height, y down. Front and side faces have upright edges.
LEFT, CORNER, RIGHT = -0.27, 0.10, 0.27


def _carton(row, height, side):
    """A gable-top carton: two upright faces, a sloping roof and the sealed fin."""
    half = int(np.ceil(0.30 * height)) + 1
    x = (np.arange(-half, half, dtype=np.float32)[None] + 0.5) / height
    y = (np.arange(height, dtype=np.float32)[:, None] + 0.5) / height
    colours = _colours(row)
    bright = (1.0, 0.70) if side < 0 else (0.84, 1.02)
    eave_left, eave_corner, eave_right = 0.265, 0.285, 0.262
    ridge = ((LEFT + 0.095, 0.085), (CORNER + 0.06, 0.10))
    canvas = np.zeros((height, 2 * half, 4), dtype=np.float32)

    def lay(points, paint):
        cover = _convex(points, x, y, height)[..., None]
        canvas[..., :3] = canvas[..., :3] * (1 - cover) + paint * cover
        canvas[..., 3:] = np.maximum(canvas[..., 3:], cover)

    s, t = _upright(x, y, LEFT, CORNER, eave_left, eave_corner, 0.965, 1.0)
    printed = _face(row, s, t, height, colours)
    lay(
        [(LEFT, eave_left), (CORNER, eave_corner), (CORNER, 1.0), (LEFT, 0.965)],
        printed * (bright[0] * (1.04 - 0.12 * t))[..., None],
    )
    s, t = _upright(x, y, CORNER, RIGHT, eave_corner, eave_right, 1.0, 0.962)
    edge = (t > 0.80)[..., None]
    paint = np.where(edge, colours["accent"], colours["body"])
    lay(
        [(CORNER, eave_corner), (RIGHT, eave_right), (RIGHT, 0.962), (CORNER, 1.0)],
        paint * (bright[1] * (1.0 - 0.16 * t))[..., None],
    )
    gable = [ridge[1], (RIGHT, eave_right), (CORNER, eave_corner)]
    lay(gable, colours["body"] * bright[1] * 0.86)
    lay([ridge[1], (CORNER + 0.085, 0.27), (CORNER, eave_corner)], colours["body"] * bright[1] * 1.02)
    roof = [ridge[0], ridge[1], (CORNER, eave_corner), (LEFT, eave_left)]
    shade = (bright[0] * (0.90 + 0.9 * (y - 0.09)))[..., None]
    lay(roof, colours["accent"] * shade.clip(0, 1.15))
    fin = [(ridge[0][0], 0.0), (ridge[1][0], 0.012), ridge[1], ridge[0]]
    lay(fin, colours["accent"] * bright[0] * (1.02 - 0.25 * (y > 0.06))[..., None])
    return canvas.clip(0, 1)


def _upright(x, y, left, right, top_left, top_right, foot_left, foot_right):
    """Texture coordinates of a face with two upright edges."""
    s = ((x - left) / (right - left)).clip(0, 1)
    top = top_left + (top_right - top_left) * s
    foot = foot_left + (foot_right - foot_left) * s
    return s + 0 * y, ((y - top) / (foot - top)).clip(0, 1)


def _face(row, s, t, height, colours):
    """The printed front of the carton."""
    size = max(8, round((CORNER - LEFT) * height)), max(8, round(0.70 * height))
    masks = _print("carton", row["brand"], *size)
    i, j = (
        (t * size[1]).clip(0, size[1] - 1).astype(np.int32),
        (s * size[0]).clip(0, size[0] - 1).astype(np.int32),
    )
    accent, ink = masks[i, j, 0, None], masks[i, j, 1, None]
    paint = colours["body"] + (colours["accent"] - colours["body"]) * accent
    return paint + (colours["ink"] - paint) * ink


def _convex(points, x, y, height):
    """Coverage of a convex polygon given clockwise (y down)."""
    cover = np.ones(np.broadcast_shapes(x.shape, y.shape), dtype=np.float32)
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        length = np.hypot(x1 - x0, y1 - y0)
        cover = np.minimum(cover, _edge(((x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)) * (height / length)))
    return cover
