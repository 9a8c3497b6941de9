// SPDX-License-Identifier: GPL-2.0-only
/* bcc includes this; its own copy of bpf.h comes first. */
