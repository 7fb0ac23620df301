"""Between the disk, the cursor and the pure sources: what to read, in which order, and what is remembered of it."""
