"""Sparse linear layers on NVIDIA GPUs: 2:4 on sparse tensor cores, single weights by a kernel of our own."""
