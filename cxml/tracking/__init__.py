"""MLflow runs, registry and flavour; the only room that imports MLflow."""
