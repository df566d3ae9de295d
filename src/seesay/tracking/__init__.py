"""What ran: the recorder of stages, run records, MLflow's store, sync and the registry. Only this imports mlflow."""
