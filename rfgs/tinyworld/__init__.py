"""The tiny world: a procedural world of shaded solids, its captions, and the training of the priors that ship in `assets/`."""
