"""The brand book of four invented brands: colours, typefaces, logo marks, layout grids, words."""

import numpy as np

# name: (what is in it, short headlines, long headlines with / where they may break)
PRODUCTS = {
    "bottle": ("ICED TEA", ("Cool down.", "Sip slow.", "Stay green."), ("Steeped cold./Served sunny.", "One bottle,/two good hours.")),
    "can": ("SODA", ("Pop. Fizz.", "Crack it.", "Big fizz."), ("A little fizz/for a long day.", "Open one./Start something.")),
    "carton": ("OAT MILK", ("Oat so good.", "Pour it on.", "Just oats."), ("Cold brew./Warm mornings.", "Milk made by/morning oats.")),
    "jar": ("JAM", ("Pure berry.", "Spread it.", "Berry big."), ("Every spoon/a summer field.", "Ten berries/in every bite.")),
    "tube": ("HAND CREAM", ("Soft hands.", "Hello, skin.", "Be kind."), ("Long days./Soft hands.", "Ten seconds,/all day soft.")),
    "pouch": ("GRANOLA", ("Crunch on.", "Good crunch.", "Bite big."), ("Baked slow./Gone fast.", "Wake up/to the crunch.")),
}  # fmt: skip
OFFERS = ("-30%", "2 for 5", "-20%", "3 for 2", "-50%", "only/1.99")
CALLS = ("Shop now", "Try it", "Order today", "Find yours")

# name: (headline typeface, pack typeface, logo mark, layout grid)
BRANDS = {
    "Orrin": ("geometric", "geometric", "sun", "centred"),
    "Fennoa": ("serif", "serif", "leaf", "left"),
    "Tikkle": ("script", "rounded", "drop", "framed"),
    "Brask": ("condensed", "condensed", "bolt", "band"),
}

# Pack colours, brand x product (bottle, can, carton, jar, tube, pouch): hue, saturation, value
PACKS = np.array([
    [(.36, .75, .55), (.01, .85, .85), (.13, .80, .95), (.90, .68, .80), (.50, .30, .95), (.60, .75, .60)],
    [(.30, .55, .40), (.08, .60, .75), (.25, .25, .90), (.02, .70, .55), (.10, .20, .95), (.45, .50, .45)],
    [(.80, .45, .80), (.93, .65, .95), (.53, .55, .90), (.97, .75, .90), (.85, .25, .97), (.12, .75, .97)],
    [(.62, .80, .35), (.00, .05, .22), (.03, .88, .88), (.12, .90, .90), (.58, .10, .92), (.00, .05, .25)],
])  # fmt: skip
MATERIALS = np.array([1, 2, 0, 1, 1, 0])  # the client's, by product: gloss, metal, matte, gloss, gloss, matte

# Background colours, brand x palette (amber, clay, cream, ocean, night, mist)
BACKGROUNDS = np.array([
    [(.085, .72, .96), (.04, .55, .62), (.11, .24, .96), (.57, .68, .76), (.63, .60, .36), (.50, .28, .90)],
    [(.10, .55, .85), (.06, .42, .60), (.13, .14, .95), (.47, .35, .60), (.42, .50, .30), (.37, .16, .85)],
    [(.12, .70, .98), (.98, .48, .85), (.07, .26, .99), (.52, .50, .88), (.72, .48, .50), (.55, .22, .95)],
    [(.09, .90, .98), (.02, .80, .75), (.12, .10, .93), (.60, .85, .62), (.65, .45, .22), (.58, .14, .80)],
])  # fmt: skip
BUTTON_HUES = (0.36, 0.93, 0.60)


def rgb(hsv):
    """(..., 3) hue, saturation, value to red, green, blue, all in [0, 1]."""
    hue, saturation, value = np.moveaxis(np.asarray(hsv, dtype=float), -1, 0)
    k = (np.array([5.0, 3.0, 1.0]) + hue[..., None] * 6) % 6
    return value[..., None] * (1 - saturation[..., None] * np.clip(np.minimum(k, 4 - k), 0, 1))


def luminance(colour):
    """Rec. 709 weights on (..., 3) red, green, blue."""
    return np.asarray(colour) @ np.array([0.2126, 0.7152, 0.0722])
