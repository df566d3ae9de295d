"""Image classifiers: training, evaluation, comparison, explanation, export."""
