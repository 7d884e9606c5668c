"""The words: plain data and small protocols. Imports torch, safetensors and the standard library, nothing of ours."""

from pomona.vocabulary.batch import Batch, Loss
from pomona.vocabulary.clock import Action, Clock, Drop, Prune, Recover, Regrow
from pomona.vocabulary.errors import InputError, ProofError, Untraceable, first_line
from pomona.vocabulary.files import cache_folder, sha256, write_atomically
from pomona.vocabulary.finite import finite
from pomona.vocabulary.goals import Budget, Goal, Limits, Price
from pomona.vocabulary.modes import evaluating, modes_kept, set_training
from pomona.vocabulary.parts import (
    Allocation,
    Criterion,
    Digesting,
    Gate,
    Graph,
    Probe,
    Recovery,
    Regulariser,
    Requirement,
    Schedule,
    Seen,
    Solver,
    Statistic,
    Structure,
    Training,
    Trials,
    Watch,
    generator,
)
from pomona.vocabulary.plan import Plan
from pomona.vocabulary.progress import Progress, Silent, Stage
from pomona.vocabulary.recipe import Paper, Recipe, changed, spell
from pomona.vocabulary.relative import Relative, relative
from pomona.vocabulary.scores import Decision, Gathered, Keeps, Scores, State, Undeclared, View
from pomona.vocabulary.sites import BLOCKS, FAMILIES, Axis, Branch, Convolution, Family, Member, Role, Site, Weight, plural
from pomona.vocabulary.sweeping import Sweeping

__all__ = [
    "BLOCKS",
    "FAMILIES",
    "Action",
    "Allocation",
    "Axis",
    "Batch",
    "Branch",
    "Budget",
    "Clock",
    "Convolution",
    "Criterion",
    "Decision",
    "Digesting",
    "Drop",
    "Family",
    "Gate",
    "Gathered",
    "Goal",
    "Graph",
    "InputError",
    "Keeps",
    "Limits",
    "Loss",
    "Member",
    "Paper",
    "Plan",
    "Price",
    "Probe",
    "Progress",
    "ProofError",
    "Prune",
    "Recipe",
    "Recover",
    "Recovery",
    "Regrow",
    "Regulariser",
    "Relative",
    "Requirement",
    "Role",
    "Schedule",
    "Scores",
    "Seen",
    "Silent",
    "Site",
    "Solver",
    "Stage",
    "State",
    "Statistic",
    "Structure",
    "Sweeping",
    "Training",
    "Trials",
    "Undeclared",
    "Untraceable",
    "View",
    "Watch",
    "Weight",
    "cache_folder",
    "changed",
    "evaluating",
    "finite",
    "first_line",
    "generator",
    "modes_kept",
    "plural",
    "relative",
    "set_training",
    "sha256",
    "spell",
    "write_atomically",
]
