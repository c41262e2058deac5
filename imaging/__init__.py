"""Imaging: bytes, and where they came from (devices, images, mapfiles, the rescue algorithm)."""
