"""What predictions are worth: per-case rows, metrics with intervals, comparisons."""
