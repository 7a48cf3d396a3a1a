"""What a person reads of a study: the page `report.html` and the `README.md` beside it."""
