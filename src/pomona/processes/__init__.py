"""Several processes at work on one model: who is who, which data are whose, and what they tell each other."""

from pomona.processes.ending import Elsewhere, Lost
from pomona.processes.joined import joined
from pomona.processes.processes import Processes

__all__ = ["Elsewhere", "Lost", "Processes", "joined"]
