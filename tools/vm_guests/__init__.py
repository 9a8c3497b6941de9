# SPDX-License-Identifier: GPL-2.0-only
"""Other kernels, booted in a virtual machine on this host's own root."""
