"""Table 3 of MFB on YouTube-8M (Liu, Yuan, Wang 2018): five fusions of deep bags of frames.

Both of frames: `python -m experiments.run mfb_table2 mfb_table3`.
"""

from experiments.studies._mfb import of_frames

STUDY = of_frames("mfb_table3", "Five fusions of deep bags of frames", "Table 3 and Figure 3 (b)", "dbof")
