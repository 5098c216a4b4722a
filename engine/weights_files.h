/*
 * engine/weights_files.h - a weights_map's files (private to weights_map.c and weights_files.c)
 */
#ifndef ENGINE_WEIGHTS_FILES_H
#define ENGINE_WEIGHTS_FILES_H

#include "base/file.h"
#include "engine/safetensors.h"
#include "engine/weights_map.h"

struct weights_file {
    const char *name;        /* in the index, lent by it; NULL: there is none */
    char *what;              /* owned: its name in messages */
    struct file_map map;     /* empty when the bytes are the caller's */
    struct safetensors view; /* empty once the map is open */
};

#endif
