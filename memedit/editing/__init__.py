"""Writing facts into slots: which slots, behind which gate, and the training of the rows."""
