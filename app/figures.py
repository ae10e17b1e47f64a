"""Tables -> plotly figures; nothing here reads disk or Streamlit's state."""
