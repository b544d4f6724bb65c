"""Sources to a checked, sorted journey log."""
