"""One reader for each format: its bytes or values as a `Table` or as `Records`, with nothing typed or lost."""
