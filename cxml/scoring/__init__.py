"""The in-process scorer and the batch job: thin callers of one kernel; they see model folders only."""
