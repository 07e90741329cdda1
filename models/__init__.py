"""Networks and losses: tensors to tensors."""
