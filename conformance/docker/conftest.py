"""The private docker daemon of the clients' tests, for the tests of our own image."""

from conformance.clients.conftest import containerd, docker, dockerd

__all__ = ["containerd", "docker", "dockerd"]
