/*
 * engine/config_fields.h - the whole numbers of config.json, and what reading and writing share
 */
#ifndef ENGINE_CONFIG_FIELDS_H
#define ENGINE_CONFIG_FIELDS_H

#include "engine/config.h"

#define CONFIG_FIELDS 8u

struct config_field {
    const char *key;
    size_t offset; /* of a uint32_t in struct model_config */
    uint32_t lo, hi;
    bool is_required;
};

extern const struct config_field config_fields[CONFIG_FIELDS];

uint32_t *config_field_at(struct model_config *c, const struct config_field *f);

/* -1, or in the vocabulary. */
MUST_USE enum status config_check_id(const struct model_config *c, const char *key, int32_t id,
                                     struct err *e);
bool config_scaling_equal(const struct rope_scaling *a, const struct rope_scaling *b);

#endif
