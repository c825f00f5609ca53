"""The console: pages for the people who run the desk, and what a browser checks by itself."""
