"""Attention Clusters (Long et al., CVPR 2018), as Brousmiche et al. 2021 compare them.

Expected, accuracy in per cent, Brousmiche et al., Table 1:

    AVE 80.71   UCF51 84.79   Kinetics-Sounds 73.91

Cost: the features of mafnet; training, minutes on one GPU.
Command: python -m tfvc.train --model=attention_cluster --data=AVE --set=data.kind=ave
Source: Long et al. 2018 for the network; features, batch and stop are mafnet's, "trained based on code
available online". Printed nowhere: clusters, batch and rate (here Keras' usual 1e-3) of that training.
"""

from tfvc.recipes._av import MASKED, base

_DEMO = ("model_args.clusters=8", "train.learning_rate=0.005")


def get_recipe(fidelity):
    """On mafnet's features with mafnet's stop; `corrected` masks padding and holds out clips to stop by."""
    return base("attention_cluster", fidelity, _DEMO, (MASKED,), optimizer="adam", learning_rate=1e-3)
