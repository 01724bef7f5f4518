"""The YouTube-8M programs on TensorFlow 2, built from tfvc."""
