"""The host that a newcomer has, made once for each file of these tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.way_in.site import Site, new_site, skip_unless_debian


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    skip_unless_debian()
    if not shutil.which("wal-g"):
        pytest.skip("wal-g is not installed here, which the README's own configuration names")
    site = new_site()
    try:
        site.make()
        yield site
    finally:
        site.remove()
