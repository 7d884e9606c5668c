"""In which order channels stand, where neighbours are chosen together: one way to find it a file; `order` reads their names."""

from pomona.orders.text import order

__all__ = ["order"]
