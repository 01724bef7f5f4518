"""Dual multimodal residual network (Tian et al., ECCV 2018), as Brousmiche et al. 2021 compare it.

Expected, accuracy in per cent, Brousmiche et al., Table 1, DMRN (our feat.):

    AVE 80.96   UCF51 82.93   Kinetics-Sounds 77.5

Cost: the features of mafnet; training, minutes on one GPU.
Command: python -m tfvc.train --model=dmrn --data=AVE --set=data.kind=ave
Source: Tian et al. 2018 for the network; features, batch and stop are mafnet's, "trained based on code
available online". Printed nowhere: units, batch and rate (here Keras' usual 1e-3) of that training.
"""

from tfvc.recipes._av import MASKED, base

_DEMO = ("model_args.units=32",)


def get_recipe(fidelity):
    """On mafnet's features with mafnet's stop; `corrected` masks padding and holds out clips to stop by."""
    return base("dmrn", fidelity, _DEMO, (MASKED,), optimizer="adam", learning_rate=1e-3)
