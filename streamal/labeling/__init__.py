"""People: the open queue, the label page, bridges to other tools."""
