"""From a clip's picture or sound to features."""
