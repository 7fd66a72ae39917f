"""Predictions to numbers, tables and figures. scikit-learn computes every metric that it has.

Never imports a framework or tracking. Open first: `reports`.
"""
