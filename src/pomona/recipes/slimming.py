"""Network slimming: the scales of normalisations are trained to be few, then the channels of the others go."""

from pomona.recipes.filters import bn_scale
from pomona.recovery.slim import Slim
from pomona.regularisers.scale_l1 import ScaleL1
from pomona.schedules.at_step import AtStep
from pomona.schedules.rounds import Rounds

slimming = bn_scale.but(
    schedule=AtStep(None),
    regulariser=ScaleL1(),
    summary="Trains under an L1 penalty on the scales of normalisations, then removes the channels that are scaled by least.",
)

slimming_passes = bn_scale.but(
    schedule=Rounds(n=2, spacing="geometric", first_train=True),
    recovery=Slim(),
    summary="Network slimming in two passes: train under the penalty on the scales, remove channels, and all that once more.",
)
