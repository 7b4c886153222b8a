"""rfgs: a sentence becomes a 3D Gaussian-splat asset, by distilling a 2D rectified-flow model."""

__version__ = "0.1.0"

import os as _os

# Waiting threads of torch's OpenMP would spin on the cores that the rasterizer's threads compute on, so they are to sleep.
# Asleep at once is bad too: a small network has hundreds of short parallel regions, and waking up for each made evaluations
# on two threads 2 times slower than with this very short wait (GNU's runtime, which torch has on Linux). A longer one is worse
# where other programs take the cores: with 10,000 in place of 1000 an evaluation took 2.3 times as long there.
# Both are read when torch is imported, so they have to be set before; whoever sets the policy outside knows better.
if "OMP_WAIT_POLICY" not in _os.environ:
    _os.environ["OMP_WAIT_POLICY"] = "passive"
    _os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# torch counts the cores that this process may run on, but not its container's share of their time.
from rfgs.threads import affinity as _affinity
from rfgs.threads import cores as _cores

if _cores() < _affinity():
    _os.environ.setdefault("OMP_NUM_THREADS", str(_cores()))
