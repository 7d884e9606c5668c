"""The quadratic layer problem and what is known about it; criteria and solvers are thin words for what is here."""

from pomona.quadratic.problem import Quadratic

__all__ = ["Quadratic"]
