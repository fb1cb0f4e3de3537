"""The tensor work of K replicas: which taps live, how parameters are packed, and the kernels themselves."""
