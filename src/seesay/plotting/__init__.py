"""Style of figures, formats of numbers and tables, and pictures embedded in pages."""
