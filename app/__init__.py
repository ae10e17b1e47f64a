"""The browser app: thin Streamlit pages over `cytovae`."""
