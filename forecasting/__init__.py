"""The forecaster: histories, features, models, intervals. Imports schemas, nothing else of ours."""
