"""What is kept and why: the plan, what refuses it, what carries it out."""
