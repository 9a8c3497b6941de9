// SPDX-License-Identifier: GPL-2.0-only
// The environment variable PTESCOPE_REMEDY: words with commas between them.
//
//     min=SIZE   sweep a slot only inside a free extent of at least SIZE bytes (K, M, G)
//     rate=N     sweep at most N slots a second
//     remap      on a kernel that frees nothing, map the slot again
//     dry_run    only count
//     quiet      print nothing
//     off        do nothing

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parts.h"

// Reads a number with an optional K, M or G; false if it is none.
static bool read_number(const char *text, bool units, uint64_t *into) {
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    unsigned shift = 0;
    if (units && *end) {
        shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
        end += shift != 0;
    }
    if (errno || *end || number > ULLONG_MAX >> shift)
        return false;
    *into = number << shift;
    return true;
}

static bool read_word(const char *word, struct remedy_options *into) {
    uint64_t number;
    if (!strcmp(word, "off"))
        into->off = true;
    else if (!strcmp(word, "remap"))
        into->remap = true;
    else if (!strcmp(word, "dry_run"))
        into->dry_run = true;
    else if (!strcmp(word, "quiet"))
        into->quiet = true;
    else if (!strncmp(word, "rate=", 5) && read_number(word + 5, false, &number) && number)
        into->rate = number;
    else if (!strncmp(word, "min=", 4) && read_number(word + 4, true, &number))
        into->min = number;
    else
        return !*word;
    return true;
}

// Reads the options; on an error returns false, and `wrong` has the word.
bool remedy_read_options(const char *text, struct remedy_options *into, char *wrong, size_t room) {
    *into = (struct remedy_options){0};
    while (text && *text) {
        size_t length = strcspn(text, ",");
        snprintf(wrong, room, "%.*s", (int)(length < room ? length : room - 1), text);
        if (length >= room || !read_word(wrong, into))
            return false;
        text += length + (text[length] == ',');
    }
    return true;
}
