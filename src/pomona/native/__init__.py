"""The native kernels, and the same in torch where they are not."""

from pomona.native.library import Library, library, using

__all__ = ["Library", "library", "using"]
