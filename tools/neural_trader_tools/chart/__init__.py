"""Charts: a picture where people would rather look than read, and its numbers in words."""
