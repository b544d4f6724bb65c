"""The estimators, their calibration, the saved form."""
