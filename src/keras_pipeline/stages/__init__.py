"""What DVC calls, one module a stage: read files, call the packages, write files. Open first: `train`."""
