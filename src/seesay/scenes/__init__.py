"""Generated drawings and captioned scenes, which stand in for real data offline."""
