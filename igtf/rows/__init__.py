"""Which axis of a tensor carries the rows of the batch, from one op to the next."""
