"""The App Registry API's door: ``/api/v1``, ``/cnr/api/v1`` and ``/appr/api/v1``."""
