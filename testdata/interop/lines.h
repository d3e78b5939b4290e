/* Commands in, events out, one JSON object a line: what the programs in C and C++ share. See README.md. */

#ifndef LINES_H
#define LINES_H

#include <jansson.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* tell prints an event and owns it. */
static void tell(json_t *event)
{
    json_dumpf(event, stdout, JSON_COMPACT);
    putchar('\n');
    fflush(stdout);
    json_decref(event);
}

/* word is a member that is a string, or NULL. */
static const char *word(json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name));
}

/* next_command returns the next line, to be released by the caller, or NULL: there is none yet, or *end. */
static json_t *next_command(bool *end)
{
    static char line[1 << 16];
    static size_t have; /* bytes of the line so far */
    struct pollfd in = {STDIN_FILENO, POLLIN, 0};
    while (poll(&in, 1, 0) > 0) {
        if (have == sizeof line || read(STDIN_FILENO, line + have, 1) != 1) {
            *end = true;
            return NULL;
        }
        if (line[have++] == '\n') {
            json_t *command = json_loadb(line, have, 0, NULL);
            have = 0;
            return command;
        }
    }
    return NULL;
}

static json_t *first_command(void)
{
    bool end = false;
    json_t *command = NULL;
    struct pollfd in = {STDIN_FILENO, POLLIN, 0};
    while (!command && !end) {
        poll(&in, 1, -1);
        command = next_command(&end);
    }
    return command;
}

static long long now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

/* pause_ms is how long to wait before the next try to connect: from 50 ms, doubled up to 3 s. */
static int pause_ms(int tries)
{
    return tries < 6 ? 50 << tries : 3000;
}

#endif
