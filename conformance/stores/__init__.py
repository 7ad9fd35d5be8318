"""The ports' contract suites and faults, on the real servers that hold a registry's data."""
