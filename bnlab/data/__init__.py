"""Images: where they come from (`sources`, without torch) and how they lie on the device (`images`, with torch)."""
