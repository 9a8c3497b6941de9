"""Other kernels, in virtual machines: what runs inside, and what is asked of it."""
