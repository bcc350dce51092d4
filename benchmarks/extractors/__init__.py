"""What the extractors that ship with the lab see: their floors, what planted faults do to a distance, how far they agree."""
