"""Studies: one question asked with many runs, their results and their reports. Open first: `study`."""
