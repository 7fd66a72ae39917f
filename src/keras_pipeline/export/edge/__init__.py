"""The LiteRT files as a small device would run them, and as a header in C. Open first: `report`."""
