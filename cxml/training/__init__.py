"""From a log to a tested model: studies, fit, calibration, exam, seal."""
