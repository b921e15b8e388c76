"""Packs: six product forms as shaded solids with a printed label.

Five are solids of revolution seen slightly from above: a profile gives the radius at each height, every pixel
is traced back to its height and angle on the surface, and colour = paint x light there. The carton is made of
flat faces.
"""

import colorsys
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from .ad_brands import BRANDS, PRODUCTS, luminance, rgb
from .ad_type import draw_mark, fitted_font

# form: profile (height from the top, radius), ring curvature (top, base), roundness of the cross-section
# (top, base; 1 is a circle, more is flatter), label (from, to), cap zone's end, body is "glass", "print" or "metal"
FORMS = {
    "bottle": {
        "profile": [(0, .060), (.070, .060), (.072, .050), (.10, .050), (.20, .054), (.40, .158), (.46, .165),
                 (.95, .165), (.985, .155), (1, .135)],
        "rings": (.10, .14), "round": (1, 1), "label": (.47, .86), "cap": .072, "body": "glass"},
    "can": {
        "profile": [(0, .172), (.02, .178), (.03, .172), (.085, .212), (.10, .214), (.91, .214), (.925, .212), (1, .170)],
        "rings": (.20, .16), "round": (1, 1), "label": (.09, .92), "cap": .028, "body": "metal"},
    "jar": {
        "profile": [(0, .245), (.012, .252), (.17, .252), (.175, .235), (.20, .235), (.29, .285), (.93, .285), (.975, .27),
                 (1, .24)],
        "rings": (.16, .12), "round": (1, 1), "label": (.40, .82), "cap": .172, "body": "glass"},
    "tube": {
        "profile": [(0, .220), (.07, .218), (.45, .200), (.80, .172), (.815, .172), (.82, .150), (.99, .142), (1, .138)],
        "rings": (.0, .14), "round": (4, 1), "label": (.08, .79), "cap": None, "body": "print"},
    "pouch": {
        "profile": [(0, .336), (.085, .336), (.12, .326), (.36, .340), (.70, .366), (.90, .362), (.97, .335), (1, .30)],
        "rings": (.0, .05), "round": (4, 1.9), "label": (.15, .90), "cap": None, "body": "print"},
}  # fmt: skip
FLAT = ("tube", "pouch", "carton")  # printed on the front only
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
def _print(product, brand, level):
    """What is printed on the pack, 16 * 1.25**level pixels high: (height, width, 2) shares of accent and ink."""
    full = _artwork(product, brand)
    height = round(16 * 1.25**level)
    width = max(4, round(height * full[0].width / full[0].height))
    method = Image.Resampling.BOX if height < full[0].height else Image.Resampling.BICUBIC
    small = [np.asarray(layer.resize((width, height), method)) for layer in full]
    return np.stack(small, axis=-1).astype(np.float32) / 255


@lru_cache
def _artwork(product, brand, h=720):
    """The print's two layers, accent and ink, as large grey pictures."""
    w = round(h * _label_width(product))
    accent, ink = (Image.new("L", (w, h)) for _ in range(2))
    write = ImageDraw.Draw(ink)
    _ornament(ImageDraw.Draw(accent), brand, w, h)
    _, typeface, mark, _ = BRANDS[brand]
    lines = PRODUCTS[product][0].split()
    room = min(w * (0.84 if product in FLAT else 0.58), h * 1.1)
    draw_mark(write, mark, w / 2, h * 0.145, min(room * 0.30, h * 0.095), 255)
    name = fitted_font(typeface, brand, room * 0.60, h * 0.085)
    write.text((w / 2, h * 0.335), brand, 255, font=name, anchor="mm")
    big = fitted_font(typeface, max(lines, key=len), room, h * (0.20 if len(lines) == 1 else 0.135))
    for place, line in enumerate(lines):
        y = h * (0.595 + 0.19 * (place - (len(lines) - 1) / 2))
        write.text((w / 2, y), line, 255, font=big, anchor="mm")
    return accent, ink


def _label_width(product):
    """Width of the flattened label over its height."""
    if product == "carton":
        return (CORNER - LEFT) / 0.70
    top, end = FORMS[product]["label"]
    radius = _profile(product)[int((top + end) / 2 * STEPS), 0]
    return (2 if product in FLAT else np.pi) * radius / (end - top)


def _sample(row, across, down, pixels, paint, colours):
    """Print on a paint: `across` and `down` in [0, 1] say where on the label each pixel lies."""
    level = max(0, int(np.ceil(np.log(max(pixels, 16) / 16) / np.log(1.25))))
    masks = _print(row["product"], row["brand"], level)
    height, width = masks.shape[:2]
    i = (down * height).clip(0, height - 1).astype(np.int32)
    j = (across * width).clip(0, width - 1).astype(np.int32)
    accent, ink = masks[i, j, 0, None], masks[i, j, 1, None]
    paint = paint + (colours["accent"] - paint) * accent
    return paint + (colours["ink"] - paint) * ink


def _ornament(draw, brand, w, h):
    """Each brand's own shape at the foot of the label."""
    if brand == "Orrin":
        draw.ellipse([w / 2 - h * 0.62, h * 0.80, w / 2 + h * 0.62, h * 2.04], 255)
    elif brand == "Fennoa":
        for y, thick in ((0.025, 0.012), (0.84, 0.012), (0.875, 0.125)):
            draw.rectangle([0, h * y, w, h * (y + thick)], 255)
    elif brand == "Tikkle":
        x = np.linspace(0, w, 200)
        y = h * (0.85 + 0.035 * np.sin(x / w * 6 * np.pi))
        draw.polygon([*zip(x, y, strict=True), (w, h), (0, h)], 255)
    else:
        draw.polygon([(0, h * 0.96), (w, h * 0.76), (w, h * 0.90), (0, h * 1.10)], 255)


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
    normal = u if form["round"] == (1, 1) else np.sign(u) * np.abs(u) ** roundness
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
        lid, paint = _lid(row["product"], colours["cap"], x / table[0, 0], y / back, sharp * back, side)
        colour = colour * (1 - lid) + paint * lid
        alpha = np.maximum(alpha, lid[..., 0])
    return np.dstack([colour.clip(0, 1), alpha]).astype(np.float32)


def _lid(product, cap, x, y, pixels, side):
    """Coverage and paint of the top ring, x and y from -1 to 1 within it: a plain lid, or a can's with its tab."""
    radius = np.sqrt(x**2 + y**2)
    paint = cap * (1.04 + 0.14 * x * side - 0.10 * y)[..., None]
    if product == "can":
        inside = (0.86 + 0.20 * np.sin(2.5 * x * side + 2 * y)) * (
            1 - 0.30 * ((radius > 0.80) & (radius < 0.88) & (y < 0.2))
        )
        tab = (np.abs(np.hypot(x / 0.34, (y - 0.12) / 0.40) - 0.8) < 0.22) | (
            np.hypot(x / 0.42, (y + 0.25) / 0.5) < 0.25
        )
        paint = np.where((radius < 0.88)[..., None], cap * (inside * (1 - 0.25 * tab))[..., None], cap * 1.14)
    return _edge((1 - radius) * pixels)[..., None], paint


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
    hue, saturation, value = colorsys.rgb_to_hsv(*body.tolist())
    dark = luminance(body) < 0.52
    paper, night = np.float32([1, 0.985, 0.95]), np.float32([0.10, 0.09, 0.17])
    towards = -0.05 if 0.06 < hue < 0.22 else 0.03  # yellows deepen to amber, not to olive
    deep = rgb([hue + towards, min(1, 1.25 * saturation + 0.2 * (saturation > 0.1)), 0.55 * value]).astype(
        np.float32
    )
    pale = rgb([hue + 0.05, 0.42 * saturation, min(1, value + 0.45)]).astype(np.float32)
    glass = row["product"] in ("bottle", "jar")
    caps = {"can": [0.80, 0.81, 0.84], "jar": [0.90, 0.76, 0.46], "bottle": [0.90, 0.76, 0.46]}
    return {
        "body": body,
        "cap": np.float32(caps.get(row["product"], paper if dark or saturation > 0.15 else night)),
        "label": paper if glass else body,
        "accent": body if glass else (pale if dark else deep),
        "ink": deep if glass else (paper if dark else night),
    }


def _printed(row, form, u, v, colours, sharp):
    """Paint of the label, wrapped round the solid."""
    top, end = form["label"]
    across = (u + 1) / 2 if row["product"] in FLAT else np.arcsin(u) / np.pi + 0.5
    return _sample(row, across, (v - top) / (end - top), (end - top) * sharp, colours["label"], colours)


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
        zip_line = np.exp(-(((v - 0.128) / 0.006) ** 2)) - 0.6 * np.exp(-(((v - 0.116) / 0.006) ** 2))
        gusset = v - 0.925 - 0.035 * (1 - u**2)
        fold = np.exp(-((gusset / 0.006) ** 2)) + 0.5 * (gusset > 0)
        seal = (v < 0.085) * (0.04 + 0.05 * np.sin(v * 440)) + 0.10 * np.exp(-(((v - 0.09) / 0.006) ** 2))
        notch = np.exp(-((u / 0.10) ** 6) - (((v - 0.042) / 0.013) ** 6))
        crease = np.sin(u * 19 + 6 * v) * np.exp(-(((v - 0.15) / 0.05) ** 2)) + np.sin(u * 15) * np.exp(
            -(((v - 0.90) / 0.05) ** 2)
        )
        paint = paint * (1 - seal - 0.20 * zip_line - 0.28 * fold - 0.55 * notch + 0.07 * crease)[..., None]
    return paint


def _light(normal, slope, facing, side):
    """Ambient and one large soft lamp, with a darker edge away from it and a shade towards the ground."""
    lamp = (0.58 * side * normal - 0.45 * slope * facing + 0.68 * facing).clip(0)
    edge = 0.18 * (normal * normal) ** 2 * (normal * normal)
    return 0.46 + 0.68 * lamp - edge


def _shine(material, u, v, side):
    """Highlights by material: strips of a soft box, a broad sheen, or the bands of metal."""
    a = u * side
    fade = (v * 8).clip(0, 1) * ((1 - v) * 8).clip(0, 1)
    rim = 0.22 * _bump(a, -0.96, 0.05)
    if material == "glass":
        return fade * (0.60 * _bump(a, 0.62, 0.08, square=True) + 0.16 * _bump(a, -0.66, 0.05)) + rim
    if material == "metal":
        return 0.34 * _bump(a, 0.52, 0.11) - 0.14 * _bump(a, 0.14, 0.16) + 1.3 * rim
    if material == "gloss":
        return fade * 0.42 * _bump(a, 0.58, 0.10, square=True) + rim
    return 0.07 * _bump(a, 0.4, 0.3) + 0.5 * rim


def _bump(a, centre, width, square=False):
    """1 at the centre and 0 away from it, as a bell or with a flat top."""
    t = ((a - centre) / width) ** 2
    return np.exp(-t * t if square else -t)


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
    printed = _sample(row, s, t, 0.70 * height, colours["body"], colours)
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


def _convex(points, x, y, height):
    """Coverage of a convex polygon given clockwise (y down)."""
    cover = np.ones(np.broadcast_shapes(x.shape, y.shape), dtype=np.float32)
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        length = np.hypot(x1 - x0, y1 - y0)
        cover = np.minimum(cover, _edge(((x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)) * (height / length)))
    return cover
