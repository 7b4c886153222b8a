"""rfgs: a sentence becomes a 3D Gaussian-splat asset, by distilling a 2D rectified-flow model."""

__version__ = "0.1.0"
