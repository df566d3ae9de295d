"""Image features: encoders, extraction and the feature store."""
