"""How a decision acts on the forward pass while training runs."""
