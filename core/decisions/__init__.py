"""What is decided from values alone; nothing here reads or writes."""
