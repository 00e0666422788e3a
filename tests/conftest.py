"""Makes `helpers` importable from every folder of the tests (pytest puts this file's folder on the path)."""
