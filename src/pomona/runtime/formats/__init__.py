"""Weights packed for the native kernels, one layout a module."""
