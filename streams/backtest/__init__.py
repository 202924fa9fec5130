"""How good the forecaster would have been on a past load."""
