"""Installation of tfvc. Exact versions are in constraints.txt; here are the ranges that work."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent

setup(
    name="tfvc",
    version=re.search(r'__version__ = "(.+)"', (ROOT / "tfvc/__init__.py").read_text()).group(1),
    description="Multi-modal video classification in TensorFlow and Keras",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    package_dir={"": "."},  # said, so that an editable install is a plain path: it works in any folder
    packages=find_packages(
        include=["tfvc", "tfvc.*", "starter", "starter.*", "experiments", "experiments.*"]
    ),
    python_requires=">=3.11,<3.13",
    install_requires=[
        "absl-py>=2.1,<3",
        "av>=14,<19",
        "h5py>=3.11,<4",
        "keras>=3.12,<4",
        "matplotlib>=3.8,<4",
        "numpy>=1.26,<3",
        "scikit-learn>=1.6,<2",
        "scipy>=1.11,<2",
        "setuptools>=70,<81",  # tensorflow-hub 0.16.1 and TensorBoard 2.16 import pkg_resources
        "tensorboard>=2.16,<2.22",
        "tensorflow>=2.16.2,<2.22",
        "tensorflow-hub>=0.16.1,<0.17",
        "tqdm>=4.66,<5",
    ],
    extras_require={
        # Its plugins load on TensorFlow 2.16 only, hence no hard dependency: http:// and s3:// records.
        "io": ["tensorflow-io>=0.37.1,<0.38"],
        # Only beside TensorFlow 2.16's protobuf: it takes none from 7 on, which the newest TensorFlow has.
        "beam": ["apache-beam>=2.77,<3"],
        "demo": ["gradio>=6.31,<7"],  # python -m tfvc.demo
        "cuda": ["tensorflow[and-cuda]>=2.16.2,<2.22"],
        "fuzz": ["atheris>=3,<4"],  # python -m experiments.fuzz; wheels for Linux on x86-64
        "dev": [
            "jax>=0.4.30,<1",  # layers and models run on it too
            "playwright>=1.60,<2",  # drives Debian's Chromium, where it is installed
            "pytest>=8,<10",
            "pytest-timeout>=2.3,<3",
            "pytest-xdist>=3.7,<4",
            "ruff>=0.8,<1",
        ],
    },
)
