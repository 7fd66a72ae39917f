"""What a verb tells of a whole: of this machine, of a checkout, of what the files may say. Open first: `status`."""
