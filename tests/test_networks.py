"""Plain networks: no picture depends on its neighbours in the batch, and no decoder paints a checkerboard."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from vaelab.networks import ConvDecoder, ConvEncoder, MLPDecoder, MLPEncoder


@pytest.mark.parametrize("encoder", [ConvEncoder, MLPEncoder])
def test_a_code_does_not_depend_on_the_pictures_beside_it(encoder):
    torch.manual_seed(0)
    network = encoder((3, 16, 16), 6, (8, 16)).train()
    x = torch.rand(5, 3, 16, 16)
    alone = torch.cat([network(picture[None]) for picture in x])
    assert_close(network(x), alone, atol=1e-5, rtol=0)
    assert_close(network(torch.cat([x[:1], 100 * x[1:]]))[:1], alone[:1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("decoder", [ConvDecoder, MLPDecoder])
def test_a_picture_does_not_depend_on_the_codes_beside_it(decoder):
    torch.manual_seed(0)
    network = decoder(2, (3, 16, 16), (16, 8)).train()
    z = torch.randn(5, 2)
    assert network(z).shape == (5, 3, 16, 16)
    assert_close(network(z)[1:2], network(z[1:2]), atol=1e-5, rtol=0)


def test_every_pixel_reaches_the_code_and_every_number_the_picture():
    torch.manual_seed(0)
    x = torch.rand(1, 1, 16, 24, requires_grad=True)
    ConvEncoder((1, 16, 24), 4, (8, 8))(x).square().sum().backward()
    assert (x.grad != 0).all()
    z = torch.randn(1, 3, requires_grad=True)
    picture = ConvDecoder(3, (1, 16, 24), (8, 8))(z)
    assert picture.shape == (1, 1, 16, 24)
    picture.square().sum().backward()
    assert (z.grad != 0).all()


def untrained_pictures():
    """Pictures of many untrained decoders, without the rim (padding makes it differ): `(n, H, W)`."""
    found = []
    for seed in range(12):
        torch.manual_seed(seed)
        with torch.no_grad():
            found.append(ConvDecoder(8, (3, 48, 48), (16, 16, 16))(torch.randn(8, 8))[..., 8:40, 8:40])
    return torch.cat(found).flatten(0, 1)


def test_no_checkerboard_the_four_phases_are_alike():
    pictures = untrained_pictures()
    pictures = pictures - pictures.mean((1, 2), keepdim=True)
    phases = [pictures[:, row::2, column::2] for row in (0, 1) for column in (0, 1)]
    for other in phases[1:]:
        assert 0.9 < float(other.var() / phases[0].var()) < 1.1
    # in each single picture, too, the phases' means are close against its contrast
    means = torch.stack([phase.mean((1, 2)) for phase in phases])
    assert float((means.std(0) / pictures.std((1, 2))).mean()) < 0.02


def test_no_checkerboard_nothing_sticks_out_at_the_highest_frequency():
    pictures = untrained_pictures()
    pictures = pictures - pictures.mean((1, 2), keepdim=True)
    power = torch.fft.fft2(pictures).abs().square().mean(0)
    for highest, below in ((power[16, :8], power[14, :8]), (power[:8, 16], power[:8, 14]), (power[16, 16], power[14, 14])):
        assert float(highest.mean()) < 1.2 * float(below.mean())


def test_an_untrained_decoder_paints_mid_grey():
    assert float(untrained_pictures().mean()) == pytest.approx(0.5, abs=0.05)


def test_sides_that_cannot_be_halved_are_refused():
    for network in (lambda: ConvEncoder((1, 28, 28), 4, (8, 8, 8)), lambda: ConvDecoder(4, (1, 28, 28), (8, 8, 8))):
        with pytest.raises(ValueError, match="28×28 cannot be halved 3 times; make both sides a multiple of 8"):
            network()


def test_no_batchnorm():
    for network in (ConvEncoder((1, 16, 16), 4, (8,)), ConvDecoder(4, (1, 16, 16), (8,)), MLPEncoder((1, 4, 4), 2)):
        assert not any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in network.modules())
