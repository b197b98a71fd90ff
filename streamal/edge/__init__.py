"""I/O: one third-party library (or one standard one) per file; edge files never import each other."""
