"""Servers that hold a registry's data, started for tests and measurements: one module each."""
