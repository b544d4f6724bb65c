"""The declarative feature set, its plan, the kernel, the frame it fills."""
