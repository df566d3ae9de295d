"""Generated drawings and captioned scenes: substitutes for real data where there is no network."""
