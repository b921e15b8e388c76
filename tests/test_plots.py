"""The house's figures: what is drawn is what was given, in its place, once."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from vaelab import plots


@pytest.fixture(autouse=True)
def house_style():
    with matplotlib.rc_context():
        plots.style()
        yield
    assert not plt.get_fignums()  # nothing left open: a notebook would show it twice


def flat(values, size=40, channels=3):
    """One picture a value, all its pixels that value."""
    return torch.tensor(values)[:, None, None, None].expand(-1, channels, size, size)


def drawn(axes):
    return np.asarray(axes.images[0].get_array())


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_grid_puts_pictures_in_reading_order_and_clamps():
    figure = plots.grid(flat([-1.0, 0.25, 0.5, 2.0, 0.75]), columns=3, labels=list("abcde"), title="Five")
    axes = figure.axes
    assert len(axes) == 6 and not axes[5].images
    assert [float(drawn(a)[0, 0, 0]) for a in axes[:5]] == [0, 0.25, 0.5, 1, 0.75]
    assert [texts(a) for a in axes] == [["a"], ["b"], ["c"], ["d"], ["e"], []]
    assert figure.texts[0].get_text() == "Five"


@pytest.mark.parametrize("size, drawing", [(8, "nearest"), (64, "antialiased")])
def test_only_tiny_pictures_keep_hard_pixels(size, drawing):
    image = plots.strip(flat([0.5], size, channels=1)).axes[0].images[0]
    assert image.get_interpolation() == drawing
    assert image.get_array().shape == (size, size)
    assert image.get_clim() == (0, 1)


def test_rows_stack_the_groups_with_their_names():
    figure = plots.rows({"Original": flat([0.1, 0.2]), "Copy": flat([0.3, 0.4])}, labels=["x", "y"])
    assert [round(float(drawn(a)[0, 0, 0]), 3) for a in figure.axes] == [0.1, 0.2, 0.3, 0.4]
    assert [sorted(texts(a)) for a in figure.axes] == [["Original", "x"], ["y"], ["Copy"], []]


def test_rows_refuse_groups_of_different_length():
    with pytest.raises(ValueError, match=r"\[1, 2\] pictures"):
        plots.rows({"a": flat([0.1]), "b": flat([0.1, 0.2])})


def test_pictures_must_be_pictures():
    with pytest.raises(ValueError, match=r"these are \(3, 4, 4\)"):
        plots.grid(torch.zeros(3, 4, 4))


def coordinates(z):
    """A decoder that paints the address: red is the first coordinate, green the second (both / 10 + 0.5)."""
    return torch.cat([z / 10 + 0.5, torch.zeros(len(z), 1)], 1)[:, :, None, None].expand(-1, -1, 2, 2)


def test_mosaic_decodes_each_cell_at_its_centre_second_coordinate_up():
    picture = plots.mosaic(coordinates, extent=2.0, n=4)
    assert picture.shape == (8, 8, 3)
    centres = np.array([-1.5, -0.5, 0.5, 1.5])
    np.testing.assert_allclose(picture[0, ::2, 0], centres / 10 + 0.5, atol=1e-6)
    np.testing.assert_allclose(picture[::2, 0, 1], centres[::-1] / 10 + 0.5, atol=1e-6)


def test_mosaic_leaves_white_gaps():
    picture = plots.mosaic(coordinates, extent=2.0, n=2, gap=3)
    assert picture.shape == (10, 10, 3)
    assert (picture[0] == 1).all() and (picture[3:6] == 1).all() and picture[1, 1, 2] == 0


def test_latent_map_axes_carry_the_coordinates():
    axes = plots.latent_map(coordinates, extent=2.5, n=3, title="Map").axes[0]
    assert axes.images[0].get_extent() == [-2.5, 2.5, -2.5, 2.5]
    assert axes.images[0].origin == "upper" and axes.get_title(loc="left") == "Map"


def test_codes_colours_each_kind_and_names_it():
    z = torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
    axes = plots.codes(z, labels=[1, 0, 1], names=["can", "jar"], extent=6).axes[0]
    can, jar = axes.collections
    np.testing.assert_array_equal(can.get_offsets(), [[2, 3]])
    np.testing.assert_array_equal(jar.get_offsets(), [[0, 1], [4, 5]])
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["can", "jar"]
    assert axes.get_xlim() == (-6, 6) and axes.get_ylim() == (-6, 6)


def test_curve_draws_each_line_and_a_legend_only_for_several():
    several = plots.curve([0, 1], {"a": [1, 2], "b": torch.tensor([3.0, 4.0])}, "step", "nats").axes[0]
    assert [line.get_ydata().tolist() for line in several.lines] == [[1, 2], [3, 4]]
    assert (several.get_xlabel(), several.get_ylabel()) == ("step", "nats") and several.get_legend()
    assert plots.curve([0, 1], {"a": [1, 2]}, "step", "nats").axes[0].get_legend() is None
