"""One package for each kind of file that is read: pure functions from old state and file contents to records."""
