"""The look of figures and tables, and pictures embedded in pages."""
