"""What came out: records collected, compared, and told in tables, figures and a page."""
