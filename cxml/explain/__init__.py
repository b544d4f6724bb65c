"""From contributions of single features to reasons in plain words."""
