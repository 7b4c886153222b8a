"""The list of packages; everything else stands in pyproject.toml.

`cli/` and `assets/` lie at the top of the repository but are installed as `rfgs.cli` and `rfgs.assets`.
Packages that are moved like this cannot be combined with automatic discovery in pyproject.toml, and a
hand-written list of all packages would fall behind the folders.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["rfgs", "rfgs.*"]), "rfgs.cli", "rfgs.assets"],
    package_dir={"rfgs.cli": "cli", "rfgs.assets": "assets"},
)
