"""What is on disk: bytes to values and back, without I/O; one module for each kind of object."""
