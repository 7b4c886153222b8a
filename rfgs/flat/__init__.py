"""The same methods without the 3D: images from sentences, photographs inverted and edited."""
