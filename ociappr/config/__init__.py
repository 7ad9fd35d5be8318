"""Settings: what can be set, and how it is read from a file, the environment and flags.

Later wins: defaults, the YAML file, the environment (``OCIAPPR_STORAGE__URL``), the command line.
Sizes are written ``64MiB``, durations ``15m``. Nothing else in the project reads settings.
"""

from __future__ import annotations

from ociappr.config.conversion import written
from ociappr.config.errors import ConfigError
from ociappr.config.loading import load
from ociappr.config.quantities import Duration, Size
from ociappr.config.secret import Secret, shown
from ociappr.config.sections import Config, MetadataSection
from ociappr.config.settings import Loaded, Setting, fields

__all__ = [
    "Config",
    "ConfigError",
    "Duration",
    "Loaded",
    "MetadataSection",
    "Secret",
    "Setting",
    "Size",
    "fields",
    "load",
    "shown",
    "written",
]
