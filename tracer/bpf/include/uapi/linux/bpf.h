/* bcc includes this; its own copy of bpf.h comes first. */
