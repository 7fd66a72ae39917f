"""Predictions of the test split to numbers, tables and figures. scikit-learn computes every metric that it has.

The metrics of each epoch are in `training.compilation`. Never imports a framework or tracking. Open first: `reports`.
"""
