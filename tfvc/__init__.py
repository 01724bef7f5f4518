"""Multi-modal video classification in TensorFlow and Keras. Importing it imports neither."""

__version__ = "0.1.0"
