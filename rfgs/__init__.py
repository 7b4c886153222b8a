"""rfgs: a sentence becomes a 3D Gaussian-splat asset, by distilling a 2D rectified-flow model."""

__version__ = "0.1.0"

import os as _os

# Waiting threads of torch's OpenMP would spin on the cores that the rasterizer's threads compute on. It is read when
# torch is imported, so it has to be set before; whoever sets it outside knows better.
_os.environ.setdefault("OMP_WAIT_POLICY", "passive")
