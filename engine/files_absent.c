/*
 * engine/files_absent.c - where the engine is built without the libraries that files need: each is refused
 */
#include "engine/weights.h"
#include "engine/weights_map.h"

static enum status refuse(const char *dir, struct err *e)
{
    return err_set(e, ERR_UNSUPPORTED,
                   "'%s': this program was built without JSON, so it reads no models "
                   "(MUSTER_ENGINE_ONLY)",
                   dir);
}

enum status weights_load(struct weights **out, const char *dir, struct err *e)
{
    *out = NULL;
    return refuse(dir, e);
}

enum status weights_map_open(struct weights_map **out, const char *dir, struct err *e)
{
    *out = NULL;
    return refuse(dir, e);
}
