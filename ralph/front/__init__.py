"""What a human touches; app is the only place that chooses adapters."""
