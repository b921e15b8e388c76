"""Rulers of a round trip: against closed forms, scikit-image and pictures whose damage is known."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("skimage")
pytest.importorskip("torchmetrics")

from skimage.metrics import structural_similarity

from vaelab.data import photos
from vaelab.fidelity import (
    KINDS,
    Region,
    average_colour_shift,
    colour_shift,
    detail_kept,
    error_map,
    faces,
    ms_ssim,
    octaves,
    power_kept,
    psnr,
    regions,
    score_regions,
    seam,
    ssim,
)
from vaelab.legibility import Word

GREY = torch.full((1, 3, 64, 64), 0.5)
RED = torch.tensor([0.8, 0.1, 0.2]).reshape(3, 1, 1)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def uniform(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_psnr_of_a_known_error():
    steps = torch.tensor([0.0, 0.1, 0.01]).reshape(3, 1, 1, 1)
    found = psnr(GREY.expand(3, -1, -1, -1), GREY + steps)
    assert found[0] == math.inf and found[1:].tolist() == pytest.approx([20, 40], abs=1e-3)
    grain = 0.05 * noise(1, 3, 256, 256)
    assert float(psnr(0.5 + 0 * grain, 0.5 + grain)) == pytest.approx(-20 * math.log10(0.05), abs=0.1)


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_is_scikit_image_s(channels):
    a = uniform(2, channels, 40, 48)
    b = (a + 0.2 * noise(2, channels, 40, 48).float()).clamp(0, 1)
    expected = [
        structural_similarity(x.numpy(), y.numpy(), data_range=1.0, channel_axis=0, gaussian_weights=True,
                              sigma=1.5, use_sample_covariance=False)
        for x, y in zip(a, b, strict=True)
    ]  # fmt: skip
    assert ssim(a, b).tolist() == pytest.approx(expected, abs=1e-4)
    assert ssim(a[:1], a[:1]).tolist() == pytest.approx([1])


def scale_product(a, b):
    """MS-SSIM by hand: contrast and structure at four halved scales, SSIM at the fifth (Wang et al. 2003, eq. 7)."""
    weights, constants = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333), (0.01**2, 0.03**2)
    line = torch.exp(-(torch.arange(-5.0, 6) ** 2) / (2 * 1.5**2))
    kernel = (torch.outer(line, line) / line.sum() ** 2)[None, None].double()
    total = 1.0
    for i, weight in enumerate(weights):
        x, y, xx, yy, xy = (F.conv2d(v, kernel) for v in (a, b, a * a, b * b, a * b))
        structure = (2 * (xy - x * y) + constants[1]) / (xx - x * x + yy - y * y + constants[1])
        light = (2 * x * y + constants[0]) / (x * x + y * y + constants[0])
        total *= float((structure * light if i == 4 else structure).mean()) ** weight
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return total


def test_ms_ssim_is_the_product_over_the_scales():
    a = F.interpolate(uniform(2, 1, 44, 48), scale_factor=4, mode="bilinear").double()
    b = (a + 0.2 * noise(*a.shape)).clamp(0, 1)
    expected = [scale_product(x[None], y[None]) for x, y in zip(a, b, strict=True)]
    assert expected[0] < 0.95 and ms_ssim(a, b).tolist() == pytest.approx(expected, abs=2e-3)
    assert ms_ssim(a, a).tolist() == pytest.approx([1, 1])


def test_what_cannot_be_compared_is_refused_in_one_sentence():
    small = torch.zeros(1, 3, 175, 200)
    with pytest.raises(
        ValueError, match="MS-SSIM needs pictures of 176 x 176 pixels at least; these are 175 x 200"
    ):
        ms_ssim(small, small)
    assert ms_ssim(*[uniform(1, 1, 176, 176)] * 2) == pytest.approx(1)  # the least size is the true one
    with pytest.raises(ValueError, match="SSIM needs pictures of 11 x 11"):
        ssim(small[..., :10], small[..., :10])
    for ruler in (psnr, ssim, ms_ssim, colour_shift, detail_kept, power_kept, error_map):
        with pytest.raises(
            ValueError, match=r"of one size are compared; got \(1, 3, 175, 200\) and \(3, 175, 200\)"
        ):
            ruler(small, small[0])


def lightness(level):
    """CIE L* of a grey in sRGB."""
    linear = level / 12.92 if level <= 0.04045 else ((level + 0.055) / 1.055) ** 2.4
    return 116 * linear ** (1 / 3) - 16


def test_colour_shift_of_greys_is_ciede2000_s_lightness_term():
    a, b = 0.6, 0.65
    middle = (lightness(a) + lightness(b)) / 2
    weight = 1 + 0.015 * (middle - 50) ** 2 / math.sqrt(20 + (middle - 50) ** 2)
    expected = (lightness(b) - lightness(a)) / weight
    for channels in (1, 3):
        one, other = torch.full((2, channels, 8, 8), a), torch.full((2, channels, 8, 8), b)
        other[1, :, :4] = a  # half of the second picture keeps its colour
        assert colour_shift(one, other).tolist() == pytest.approx([expected, expected / 2], rel=1e-3)


def test_grain_moves_the_pixels_and_drift_the_average():
    red = RED.expand(1, 3, 64, 64)
    grainy, drifted = (
        red + 0.05 * noise(1, 3, 64, 64).float(),
        red + torch.tensor([0.05, 0, 0]).reshape(3, 1, 1),
    )
    assert colour_shift(red, grainy) > 3 and average_colour_shift(red, grainy) < 0.3
    assert average_colour_shift(red, drifted) == pytest.approx(float(colour_shift(red, drifted)), abs=1e-4)
    assert average_colour_shift(red, drifted) > 2


def test_the_octaves_share_out_all_frequencies_once():
    bands = octaves(4)
    assert bands[0] == (1 / 4, math.inf) and bands[-1] == (1 / 32, 1 / 16)
    assert [low for low, _ in bands[:-1]] == [high for _, high in bands[1:]]


def low_pass(pictures, sigma):
    """A Gaussian low-pass of known strength at every frequency f, exp(−2π²σ²f²)."""
    f = torch.hypot(*torch.meshgrid(*map(torch.fft.fftfreq, pictures.shape[2:]), indexing="ij"))
    return torch.fft.ifft2(torch.fft.fft2(pictures) * torch.exp(-2 * (math.pi * sigma * f) ** 2)).real


def test_detail_through_a_known_low_pass():
    a, sigma = 0.5 + 0.1 * noise(1, 1, 256, 256), 1.5
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256)))
    gain = np.exp(-2 * (np.pi * sigma * f) ** 2)
    bands = [(low <= f) & (f < high) for low, high in octaves(4)]
    b = low_pass(a, sigma)
    # White noise has the same power at every frequency: a band keeps the mean of the gain, and of its square.
    assert detail_kept(a, b, 4)[0].tolist() == pytest.approx([gain[band].mean() for band in bands], abs=0.02)
    assert power_kept(a, b, 4)[0].tolist() == pytest.approx(
        [(gain[band] ** 2).mean() for band in bands], abs=0.02
    )


def test_gone_and_replaced_by_invented_texture_are_told_apart():
    a = 0.5 + 0.1 * noise(1, 3, 256, 256)
    blurred = low_pass(a, 2)
    invented = blurred + (
        a.std() * noise(1, 3, 256, 256, seed=1) - low_pass(a.std() * noise(1, 3, 256, 256, seed=1), 2)
    )
    finest = {"gone": blurred, "invented": invented}
    kept = {name: float(detail_kept(a, b)[0, 0]) for name, b in finest.items()}
    power = {name: float(power_kept(a, b)[0, 0]) for name, b in finest.items()}
    assert kept == {"gone": pytest.approx(0, abs=0.05), "invented": pytest.approx(0, abs=0.05)}
    assert power == {"gone": pytest.approx(0, abs=0.02), "invented": pytest.approx(1, abs=0.05)}


def test_detail_of_equal_fainter_inverted_noisy_and_absent_pictures():
    a = 0.1 * noise(1, 3, 256, 256)
    for gain in (1, 0.5, -1):
        assert detail_kept(a, gain * a)[0].tolist() == pytest.approx([gain] * 6, abs=1e-6)
        assert power_kept(a, gain * a)[0].tolist() == pytest.approx([gain**2] * 6, abs=1e-6)
    noisy = a + 0.05 * noise(1, 3, 256, 256, seed=1)  # a quarter of the power on top, in no relation
    assert detail_kept(a, noisy, 3)[0].tolist() == pytest.approx([1] * 3, abs=0.05)
    assert power_kept(a, noisy, 3)[0].tolist() == pytest.approx([1.25] * 3, abs=0.08)
    assert detail_kept(GREY, a[..., :64, :64] + 0.5).isnan().all()
    # A lone stripe pattern of 1/16 cycle a pixel has nothing finer to keep: it lies in one band and its neighbours.
    stripes = (0.5 + 0.2 * torch.sin(2 * math.pi * (torch.arange(128) + 0.5) / 16)).expand(1, 1, 128, 128)
    assert (~detail_kept(stripes, stripes, 4).isnan()).tolist() == [[False, False, True, True]]


def test_the_error_map_shows_where():
    b = GREY.clone()
    b[0, 0, 20, 30] += 0.9
    found = error_map(GREY, b)
    assert found.shape == (1, 64, 64) and float(found[0, 20, 30]) == pytest.approx(0.9 / 3 / 9)
    assert found.sum() == pytest.approx(0.3, abs=1e-5) and found[0, 22, 30] == 0
    assert error_map(GREY, GREY + 0.25).flatten().tolist() == pytest.approx(
        [0.25] * 64**2
    )  # to the very corner


def tiles(pictures, period, offset, jump):
    """Steps of `jump` up and down at the borders of tiles: none elsewhere."""
    index = ((torch.arange(64) - offset) // period) % 2
    return pictures + jump * (index[:, None] ^ index[None, :])


@pytest.mark.parametrize("offset", [0, 5])
def test_a_seam_is_seen_on_both_sides_of_one(offset):
    grain = 0.02 * noise(2, 3, 64, 64)
    assert seam(grain, 16, offset).tolist() == pytest.approx([1, 1], abs=0.05)
    for jump in (0.2, -0.2):
        assert (seam(tiles(grain, 16, offset, jump), 16, offset) > 5).all()
    assert (seam(tiles(grain, 16, offset, 0.2), 16, offset + 8) < 0.8).all()  # looked for in the wrong place
    smeared = grain.clone()
    for line in range(offset or 16, 64, 16):
        smeared[:, :, line] = smeared[:, :, line - 1]
        smeared[:, :, :, line] = smeared[:, :, :, line - 1]
    assert (seam(smeared, 16, offset) < 0.2).all()


def test_the_seam_is_the_ratio_of_the_jumps():
    ramp = (0.01 * torch.arange(32.0)).expand(1, 1, 32, 32).clone()
    ramp[..., 16:] += 0.03  # 0.04 at the one border across, 0.01 elsewhere; nothing jumps from row to row
    assert float(seam(ramp, 16)) == pytest.approx((0.04 / 2) / (0.01 * 30 / 60), rel=1e-5)
    assert seam(GREY, 16).tolist() == [1]
    for period in (64, 100, 1):
        with pytest.raises(ValueError, match="No border of tiles"):
            seam(GREY, period)


class Fake:
    """Reads what it is told to, and counts how often."""

    def __init__(self, *words):
        self.words, self.asked = words, 0

    def read(self, picture):
        self.asked += 1
        return [Word(text, box, 0.9) for text, box in self.words]


WORDS_AT, RED_AT = (160, 128, 32, 128), (24, 152, 80, 80)


def made_picture():
    """Known parts on pale ground: noise, a slanting edge, a red patch, and a busy place where words are said to be."""
    picture = torch.full((3, 256, 256), 0.9)
    picture[:, 24:104, 24:104] = 0.1 + 0.8 * uniform(3, 80, 80)
    y, x = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
    picture -= 0.85 * ((y - 2 * x - 165) / 3).clamp(0, 1)  # dark in the corner at the left and below
    for (top, left, height, width), fill in ((RED_AT, RED), (WORDS_AT, uniform(3, 32, 128, seed=1))):
        picture[:, top : top + height, left : left + width] = fill
    return picture


def inside(box, other):
    return all(
        start >= o and start + size <= o + s
        for start, size, o, s in zip(box[:2], box[2:], other[:2], other[2:], strict=True)
    )


def test_regions_are_where_we_put_them():
    found = regions(made_picture(), Fake(("SALE", WORDS_AT)))
    assert found[0] == Region("text", WORDS_AT, "SALE")
    boxes = {kind: [r.box for r in found if r.kind == kind] for kind in KINDS}
    assert boxes["face"] == [] and {box[2:] for kind in KINDS[2:] for box in boxes[kind]} == {(32, 32)}
    assert inside(boxes["texture"][0], (24, 24, 80, 80)) and inside(boxes["edges"][0], (160, 0, 96, 64))
    # The ground and the brand's red, each once, however much of them there is.
    assert len(boxes["flat"]) == 2 and sum(inside(box, RED_AT) for box in boxes["flat"]) == 1
    assert inside(
        next(r.box for r in regions(made_picture()) if r.kind == "texture"), WORDS_AT
    )  # if no one reads


def test_few_regions_and_none_overlaps_text_or_a_face():
    astronaut = photos.load(256, ("astronaut",))["astronaut"]
    text = (170, 60, 30, 40)
    found = regions(astronaut, Fake(("NASA", text)), count=2)
    assert [kind for kind in KINDS if kind in {r.kind for r in found}] == list(KINDS)
    assert all(sum(r.kind == kind for r in found) <= 2 for kind in KINDS[2:])
    cover = torch.zeros(256, 256)
    for top, left, height, width in (r.box for r in found):
        cover[top : top + height, left : left + width] += 1
    assert cover.max() == 1
    ((top, left, height, width),) = (r.box for r in found if r.kind == "face")
    known = photos.PHOTOS["astronaut"].regions["face"]  # of the picture at 512 pixels
    assert abs(top + height / 2 - (known[0] + known[2] / 2) / 2) < 10
    assert abs(left + width / 2 - (known[1] + known[3] / 2) / 2) < 10


def test_faces_are_not_seen_where_none_are():
    others = photos.load(128, ("coffee", "brick", "grass", "coins"))
    assert [faces(picture) for picture in others.values()] == [[]] * 4
    assert regions(torch.zeros(3, 12, 12)) == []  # too small for a block or a face


def test_scores_by_region():
    a = made_picture()
    found = regions(a, Fake(("BIG SALE", WORDS_AT)))
    same = score_regions(a, a, found, Fake(("BIG SALE", (161, 130, 30, 120))))
    assert all(s.psnr == math.inf and s.colour == 0 and (s.detail == 1 or math.isnan(s.detail)) for s in same)
    assert same[0].read == "BIG SALE" and same[0].legible == 1
    assert all(s.read is None and s.legible is None for s in same[1:])

    b = a.clone()
    b[:, 160:192, 128:256] = low_pass(a[None, :, 160:192, 128:256], 2)[0]
    b[0, 24:104, 152:232] -= 0.1
    reader = Fake(("BIG", (165, 130, 20, 50)), ("SOLE", (165, 190, 20, 50)), ("OTHER", (10, 10, 20, 50)))
    scores = score_regions(a, b, found, reader)
    assert scores[0].read == "BIG SOLE" and scores[0].legible == pytest.approx(6 / 7) and reader.asked == 1
    assert scores[0].detail < 0.2 and scores[0].psnr < 20
    (red,) = (s for s in scores if s.region.kind == "flat" and inside(s.region.box, RED_AT))
    assert red.psnr == pytest.approx(-10 * math.log10(0.01 / 3), abs=0.01) and red.colour > 3
    assert score_regions(a, a, found)[0].read is None


def test_a_region_whose_words_vanished_and_one_outside_the_picture():
    a = made_picture()
    (score,) = score_regions(a, a, [Region("text", WORDS_AT, "SALE")], Fake())
    assert score.read == "" and score.legible == 0
    with pytest.raises(ValueError, match="lies outside of a picture of"):
        score_regions(a, a, [Region("flat", (300, 0, 16, 16))])
