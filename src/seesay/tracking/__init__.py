"""Run tracking: stage recorder, run records, MLflow store, sync, registry. Only this package imports mlflow."""
