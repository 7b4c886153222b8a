"""The viewer's browser, for the studio's page as well."""

from tests.viewer.conftest import browser, shared_browser

__all__ = ["browser", "shared_browser"]
