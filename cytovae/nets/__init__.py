"""Networks and losses; nothing here touches the disk."""
