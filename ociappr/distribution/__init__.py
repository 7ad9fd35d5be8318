"""The ``/v2`` door: the OCI Distribution API (distribution-spec, spec.md)."""
