"""Other kernels, booted in a virtual machine on this host's own root."""
