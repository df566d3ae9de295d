"""Results collected and rendered: tables, pages, README figures, gates."""
