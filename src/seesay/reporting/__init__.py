"""Results for people: tables, figures, pages, and the gate. Imports no torch."""
