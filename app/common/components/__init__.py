"""Streamlit components (v2): HTML, CSS and JavaScript with a thin Python face."""
