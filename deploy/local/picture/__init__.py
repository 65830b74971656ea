"""The picture of a run: read from a site (reading.py), made into facts (facts.py and its makers), drawn as one page (page.py)."""
