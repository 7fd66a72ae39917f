"""Files as they come: from mirrors, in archives, packed, changed since the last time. Open first: `download`."""
