"""One suite of promises per port, which each driver's test class subclasses."""

import pytest

pytest.register_assert_rewrite(
    *(f"{__name__}.{port}" for port in ("metadata", "blobstore", "registry", "snapshots"))
)
