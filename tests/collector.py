"""The garbage collector of processes that trace hundreds of small networks for a few steps each."""

import gc


def walk_rarely():
    """What is there stays, and is not walked over again; what comes, a seventieth as often as usual."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
