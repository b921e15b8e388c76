"""vaelab: variational autoencoders for people who make advertising."""

__version__ = "0.1.0"
