"""The tie between DVC and MLflow; the only place that imports mlflow."""
