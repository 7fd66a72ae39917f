"""One module a stage: read files, call the modules above, write files."""
