"""Frame sums: what scores need of one frame beyond the errors of its points, in numbers that can be added."""
