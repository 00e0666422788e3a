"""Every test has a cache of its own for what evaluation learns and keeps."""

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("REVERIE_CACHE", str(folder))
    return folder
