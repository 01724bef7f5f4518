"""Table 2 of MFB on YouTube-8M (Liu, Yuan, Wang 2018): five fusions of NetVLAD's descriptors.

Both of frames: `python -m experiments.run mfb_table2 mfb_table3`.
"""

from experiments.studies._mfb import of_frames

STUDY = of_frames("mfb_table2", "Five fusions of NetVLAD descriptors", "Table 2 and Figure 3 (c)", "netvlad")
