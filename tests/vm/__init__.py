# SPDX-License-Identifier: GPL-2.0-only
"""Other kernels, in virtual machines: what runs inside, and what is asked of it."""
