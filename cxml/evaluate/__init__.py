"""Metrics, baselines, intervals and plots."""
